"""What Lava computes in one OS process is what it computes in many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.io.reset import Reset
from lava.proc.io.sink import Read
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF
from lava.proc.monitor.process import Monitor
from lava.proc.sparse.process import Sparse
from runtime_processes import Pair
from scipy.sparse import csr_matrix

from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime

STEPS = 11
CONFIG = Loihi2SimCfg(select_tag="fixed_pt")
Results = dict[str, np.ndarray]


class Zoo:
    """One net with all that a runtime has to carry: the recorders say what happened in it."""

    def __init__(self) -> None:
        random = np.random.default_rng(7)
        source = Source(data=random.integers(-3, 4, size=(3, 8)))
        bias = Source(data=random.integers(0, 40, size=(2, 2, 5)))
        self.neurons = LIF(shape=(4,), du=1000, dv=300, vth=2)
        self.synapse = Dense(weights=random.integers(-60, 61, size=(4, 3)), num_message_bits=8)
        loop = Dense(weights=random.integers(-20, 21, size=(4, 4)))
        source.s_out.connect(self.synapse.s_in)
        self.synapse.a_out.connect(self.neurons.a_in)
        bias.s_out.flatten().connect(self.neurons.a_in)
        self.neurons.s_out.connect(loop.s_in)
        loop.a_out.connect(self.neurons.a_in)

        delayed = DelayDense(
            weights=random.integers(-9, 10, size=(2, 4)), delays=np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
        )
        sparse = Sparse(weights=csr_matrix(np.array([[2, 0, 0, 4], [0, 0, 6, 0]])))
        pair = Pair()
        self.sinks = {name: Sink(shape=(2,), buffer=STEPS) for name in ("delayed", "sparse", "pair", "both")}
        for synapse, name in ((delayed, "delayed"), (sparse, "sparse")):
            self.neurons.s_out.connect(synapse.s_in)
            synapse.a_out.connect(self.sinks[name].a_in)
            synapse.a_out.connect(self.sinks["both"].a_in)
        delayed.a_out.connect(pair.a_in)
        pair.s_out.connect(self.sinks["pair"].a_in)
        self.pair = pair

        self.voltage, self.spikes = Monitor(), Monitor()
        self.voltage.probe(self.neurons.v, STEPS)
        self.spikes.probe(self.neurons.s_out, STEPS)
        self.read, reset = Read(buffer=4, interval=3, offset=1), Reset(interval=5, offset=1)
        self.read.connect_var(self.neurons.u)
        reset.connect_var(pair.v)

    def run(self, run: Callable[[int], None]) -> Results:
        """Run 4 and 7 steps, writing Vars in between, and return all that was recorded."""
        run(4)
        halfway = self.neurons.v.get()
        self.neurons.v.set(np.array([5, -6, 7000, 0]))
        self.synapse.weights.set(np.full((4, 3), 10))
        run(7)
        voltage = self.voltage.get_data()[self.neurons.name]["v"]
        spikes = self.spikes.get_data()[self.neurons.name]["s_out"]
        results = {"halfway": halfway, "voltage": voltage, "spikes": spikes, "pair": self.pair.v.get()}
        recorded: dict[str, Var] = {name: sink.data for name, sink in self.sinks.items()}
        return {
            **results,
            **{f"sink {name}": var.get() for name, var in recorded.items()},
            "u": self.read.data.get(),
        }


@pytest.fixture(scope="module")
def stock_results() -> Results:
    zoo = Zoo()
    top: AbstractProcess = zoo.neurons
    try:
        return zoo.run(lambda steps: top.run(RunSteps(steps), CONFIG))
    finally:
        top.stop()


@pytest.fixture(scope="module")
def results() -> Results:
    zoo = Zoo()
    with InProcessRuntime(zoo.neurons, CONFIG) as runtime:
        return zoo.run(runtime.run)


def test_every_recorder_saw_activity(stock_results: Results) -> None:
    assert all(np.any(values) for values in stock_results.values())


@pytest.mark.parametrize(
    "recorder",
    [
        "halfway",
        "voltage",
        "spikes",
        "pair",
        "sink delayed",
        "sink sparse",
        "sink pair",
        "sink both",
        "u",
    ],
)
def test_recorded_values_equal_stock_lava(results: Results, stock_results: Results, recorder: str) -> None:
    np.testing.assert_array_equal(results[recorder], stock_results[recorder])
    assert results[recorder].dtype == stock_results[recorder].dtype


def test_results_do_not_depend_on_the_process_that_the_network_is_built_from(results: Results) -> None:
    zoo = Zoo()
    with InProcessRuntime(zoo.sinks["pair"], CONFIG) as runtime:
        again = zoo.run(runtime.run)
    for name, values in results.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)


def test_stock_lava_runs_as_before_after_the_in_process_runtime(results: Results, stock_results: Results) -> None:
    zoo = Zoo()
    try:
        again = zoo.run(lambda steps: zoo.neurons.run(RunSteps(steps), CONFIG))
    finally:
        zoo.neurons.stop()
    for name, values in stock_results.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)

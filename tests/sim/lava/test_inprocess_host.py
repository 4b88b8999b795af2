"""How a host drives a network: the same with Lava in one OS process and in many."""

from __future__ import annotations

import numpy as np
import pytest
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.proc.io.extractor import Extractor, PyLoihiExtractorModel
from lava.proc.io.injector import Injector, PyLoihiInjectorModel
from runtime_processes import Adder, Counter, Culprit, Pair

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.sim.lava.runtimes.base import NetworkRuntime
from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime
from loihi_mmfree.sim.lava.runtimes.stock import StockRuntime

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.parametrize("runtime_class", [InProcessRuntime, StockRuntime]),
]
RuntimeClass = type[NetworkRuntime]
CONFIG = Loihi2SimCfg(select_tag="fixed_pt")


def test_host_receives_one_message_a_step_while_the_network_runs(runtime_class: RuntimeClass) -> None:
    counter = Counter(buffer_size=2)
    with runtime_class(counter, CONFIG) as runtime:
        runtime.begin(5)
        received = [runtime.receive(counter.out) for _ in range(5)]
    # The sender uses its array again, and the pipe holds two: still each message is its own.
    np.testing.assert_array_equal(received, [[step, step] for step in range(1, 6)])
    assert {message.dtype for message in received} == {np.dtype(np.int32)}


def test_host_answers_what_it_receives(runtime_class: RuntimeClass) -> None:
    adder = Adder(buffer_size=1)
    with runtime_class(adder, CONFIG) as runtime:
        adder.bias.set(np.array([1, -1]))
        runtime.begin(4)
        message = np.array([100, 100])
        for _ in range(4):
            runtime.send(adder.a_in, message)
            message = runtime.receive(adder.out)
        runtime.wait()
        assert adder.bias.get().tolist() == [1, -1]
    assert message.tolist() == [104, 96]


def test_lavas_injector_and_extractor_exchange_with_a_running_network(runtime_class: RuntimeClass) -> None:
    injector, extractor = Injector(shape=(2,)), Extractor(shape=(2,))
    synapse = Dense(weights=np.array([[2.0, 0.0], [4.0, -6.0]]), num_message_bits=8)
    injector.out_port.connect(synapse.s_in)
    synapse.a_out.connect(extractor.in_port)
    models = {Injector: PyLoihiInjectorModel, Extractor: PyLoihiExtractorModel}
    config = Loihi2SimCfg(select_tag="floating_pt", exception_proc_model_map=models)
    with runtime_class(synapse, config):
        synapse.run(RunSteps(3, blocking=False))
        received = []
        for step in range(3):
            injector.send(np.array([step, 1.0]))
            received.append(extractor.receive())
        synapse.wait()
    # One synapse is one step of delay.
    np.testing.assert_array_equal(received, [[0, 0], [0, -6], [2, -2]])


def test_var_read_after_begin_waits_for_the_end_of_the_run(runtime_class: RuntimeClass) -> None:
    counter = Counter()
    with runtime_class(counter, CONFIG) as runtime:
        runtime.begin(3)
        assert counter.last.get().tolist() == [3, 3]
        runtime.begin(2)
        runtime.run(1)
        assert counter.last.get().tolist() == [6, 6]


def test_a_process_can_end_the_run_for_good(runtime_class: RuntimeClass) -> None:
    culprit = Culprit("stop")
    with runtime_class(culprit, CONFIG) as runtime:
        runtime.run(10)
        with pytest.raises(SimulationError, match="cannot start another run: the network has ended"):
            runtime.run(1)


def test_a_process_can_pause_the_run_and_it_can_go_on(runtime_class: RuntimeClass) -> None:
    culprit = Culprit("pause")
    with runtime_class(culprit, CONFIG) as runtime:
        runtime.run(10)
        runtime.run(2)


def test_leaving_in_mid_run_ends_the_network(runtime_class: RuntimeClass) -> None:
    counter = Counter(buffer_size=1)
    with runtime_class(counter, CONFIG) as runtime:
        runtime.begin(100)
        assert runtime.receive(counter.out).tolist() == [1, 1]


def test_leaving_a_network_that_never_ran_ends_it(runtime_class: RuntimeClass) -> None:
    with runtime_class(Counter(), CONFIG):
        pass


def test_an_error_of_the_caller_passes_through(runtime_class: RuntimeClass) -> None:
    with pytest.raises(ZeroDivisionError), runtime_class(Counter(), CONFIG) as runtime:
        runtime.run(1 // 0)


def test_a_process_that_was_compiled_before_is_refused_by_name(runtime_class: RuntimeClass) -> None:
    counter = Counter()
    counter.compile(CONFIG)
    with pytest.raises(SimulationError, match=rf"{counter.name} \(Counter\) was compiled before"):
        runtime_class(counter, CONFIG)


def test_a_port_without_external_pipe_is_refused_by_name(runtime_class: RuntimeClass) -> None:
    pair = Pair()
    with (
        pytest.raises(SimulationError, match=r"port 's_out' of Process_\d+ \(Pair\) has no external pipe"),
        runtime_class(pair, CONFIG) as runtime,
    ):
        runtime.receive(pair.s_out)


@pytest.mark.parametrize("how", ["raise", "build", "wrong shape"])
def test_an_exception_in_a_process_model_is_raised_with_its_name(runtime_class: RuntimeClass, how: str) -> None:
    culprit = Culprit(how)
    sink = Dense(weights=np.ones((1, 1)))
    culprit.s_out.connect(sink.s_in)
    expected = {"raise": "three is too many", "build": "cannot be built", "wrong shape": r"\(2,\)"}[how]
    with (
        pytest.raises(SimulationError, match=rf"culprit \(Culprit\) failed.*{expected}") as failure,
        runtime_class(sink, CONFIG) as runtime,
    ):
        runtime.run(10)
    assert isinstance(failure.value.__cause__, ValueError if how != "wrong shape" else AssertionError)

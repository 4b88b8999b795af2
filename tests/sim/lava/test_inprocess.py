"""Lava in one OS process: what goes wrong is named at once, and nothing stays."""

from __future__ import annotations

import itertools
import multiprocessing
import re
import threading
import traceback

import numpy as np
import pytest
from lava.magma.compiler.channels import pypychannel
from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
from lava.magma.core.run_conditions import RunContinuous, RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.runtime import runtime as lava_runtime
from lava.magma.runtime.runtime_services import runtime_service
from lava.proc.dense.process import Dense
from lava.proc.io.extractor import Extractor, PyLoihiExtractorModel
from lava.proc.io.injector import Injector, PyLoihiInjectorModel
from lava.proc.io.utils import ChannelConfig, ReceiveEmpty
from runtime_processes import Adder, Counter, Culprit, FreeCounter, Relay

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime

pytestmark = pytest.mark.usefixtures("nothing_left")
CONFIG = Loihi2SimCfg(select_tag="fixed_pt")


def test_no_os_process_thread_or_shared_memory_is_made(shared_memory_names: list[str]) -> None:
    counter = Counter()
    with InProcessRuntime(counter, CONFIG) as runtime:
        runtime.run(2)
        assert not shared_memory_names
        assert not multiprocessing.active_children()
        assert threading.active_count() == 1


def test_lava_is_not_patched_while_a_network_runs() -> None:
    names = (
        (lava_runtime, "MessageInfrastructureFactory"),
        (lava_runtime, "Queue"),
        (lava_runtime, "CspSelector"),
        (runtime_service, "CspSelector"),
        (pypychannel.CspSelector, "select"),
        (ProcGroupDiGraphs, "_find_proc_models"),
    )
    before = [getattr(owner, name) for owner, name in names]
    with InProcessRuntime(Counter(), CONFIG) as runtime:
        runtime.run(1)
        assert [getattr(owner, name) for owner, name in names] == before


def test_two_networks_run_in_turns() -> None:
    first, second = Counter(), Counter()
    with InProcessRuntime(first, CONFIG) as one, InProcessRuntime(second, CONFIG) as two:
        one.begin(2)
        two.begin(1)
        assert one.receive(first.out).tolist() == [1, 1]
        assert two.receive(second.out).tolist() == [1, 1]
        assert one.receive(first.out).tolist() == [2, 2]


def test_senders_are_commanded_before_receivers() -> None:
    relays = [Relay(f"relay{index}") for index in range(20)]
    for source, destination in itertools.pairwise(reversed(relays)):
        source.s_out.connect(destination.a_in)
    with InProcessRuntime(relays[7], CONFIG) as runtime:
        assert runtime._services[0].model_ids == [relay.id for relay in reversed(relays)]


def test_a_cycle_without_a_synapse_is_a_deadlock_with_the_ports_that_wait() -> None:
    first, second = Relay("first"), Relay("second")
    first.s_out.connect(second.a_in)
    second.s_out.connect(first.a_in)
    with InProcessRuntime(first, CONFIG) as runtime:
        with pytest.raises(SimulationError) as failure:
            runtime.run(1)
        assert str(failure.value).startswith("deadlock: the host waits for the run to end")
        assert "first (Relay) waits to receive on second.s_out -> first.a_in" in str(failure.value)
        assert "second (Relay) waits to receive on first.s_out -> second.a_in" in str(failure.value)


def test_a_neuron_connected_to_itself_is_a_deadlock() -> None:
    neuron = Relay("neuron")
    neuron.s_out.connect(neuron.a_in)
    with (
        pytest.raises(SimulationError, match=re.escape("neuron.s_out -> neuron.a_in")),
        InProcessRuntime(neuron, CONFIG) as runtime,
    ):
        runtime.run(1)


def test_a_long_deadlock_report_is_cut_with_a_count() -> None:
    relays = [Relay(f"relay{index}") for index in range(12)]
    for source, destination in zip(relays, [*relays[1:], relays[0]], strict=True):
        source.s_out.connect(destination.a_in)
    with pytest.raises(SimulationError, match="; and 4 more"), InProcessRuntime(relays[0], CONFIG) as runtime:
        runtime.run(1)


def test_asking_for_more_than_a_run_sends_is_an_error() -> None:
    counter = Counter()
    with InProcessRuntime(counter, CONFIG) as runtime:
        runtime.begin(1)
        runtime.receive(counter.out)
        with pytest.raises(
            SimulationError, match=rf"receive on {counter.name}.out -> the host, but every process is at"
        ):
            runtime.receive(counter.out)


def test_a_full_pipe_that_the_host_does_not_empty_is_a_deadlock() -> None:
    counter = Counter(buffer_size=2)
    with (
        InProcessRuntime(counter, CONFIG) as runtime,
        pytest.raises(SimulationError, match=r"waits to send on .*out -> the host, which is full \(2 messages\)"),
    ):
        runtime.run(3)


def test_a_full_pipe_to_a_network_at_rest_is_a_deadlock() -> None:
    adder = Adder(buffer_size=2)
    with InProcessRuntime(adder, CONFIG) as runtime:
        runtime.send(adder.a_in, np.zeros(2))
        runtime.send(adder.a_in, np.zeros(2))
        with pytest.raises(SimulationError, match=r"the host waits to send on the host -> .*a_in, which is full"):
            runtime.send(adder.a_in, np.zeros(2))


def test_a_failure_names_the_time_step_and_shows_where_it_happened() -> None:
    with InProcessRuntime(Culprit("raise"), CONFIG) as runtime:
        with pytest.raises(
            SimulationError, match=r"culprit \(Culprit\) failed in time step 3: ValueError: three is"
        ) as failure:
            runtime.run(10)
        assert "_misbehave" in "".join(traceback.format_tb(failure.value.__cause__.__traceback__))


def test_a_failure_ends_the_network_at_once() -> None:
    counter = Counter()
    culprit = Culprit("raise")
    synapse = Dense(weights=np.ones((1, 1)))
    culprit.s_out.connect(synapse.s_in)
    with InProcessRuntime(culprit, CONFIG) as runtime:
        with pytest.raises(SimulationError):
            runtime.run(10)
        with pytest.raises(SimulationError, match="cannot read a Var: the network has ended"):
            synapse.weights.get()
    with pytest.raises(SimulationError, match="cannot start another run: the network is not built"):
        InProcessRuntime(counter, CONFIG).run(1)


def test_ctrl_c_in_a_process_model_reaches_the_host_and_ends_the_network() -> None:
    with InProcessRuntime(Culprit("interrupt"), CONFIG) as runtime:
        with pytest.raises(KeyboardInterrupt):
            runtime.run(10)
        with pytest.raises(SimulationError, match="has ended"):
            runtime.run(1)


def test_a_continuous_run_pauses_and_runs_again() -> None:
    counter = Counter()
    with InProcessRuntime(counter, CONFIG) as runtime:
        runtime.start(RunContinuous())
        assert [runtime.receive(counter.out)[0] for _ in range(3)] == [1, 2, 3]
        with pytest.raises(SimulationError, match=r"while RunContinuous is under way: call pause\(\) first"):
            counter.last.get()
        runtime.pause()
        steps = int(counter.last.get()[0])
        counter.run(RunSteps(2))
        assert counter.last.get().tolist() == [steps + 2] * 2


def test_an_asynchronous_process_runs_until_it_is_paused() -> None:
    counter = FreeCounter()
    with InProcessRuntime(counter, CONFIG) as runtime:
        runtime.start(RunContinuous())
        assert [runtime.receive(counter.out)[0] for _ in range(3)] == [1, 2, 3]
        runtime.pause()
        assert counter.count.get()[0] >= 3


def test_a_host_that_polls_sees_the_network_advance() -> None:
    empty_as_zeros = ChannelConfig(receive_empty=ReceiveEmpty.NON_BLOCKING_ZEROS)
    injector = Injector(shape=(1,), channel_config=empty_as_zeros)
    extractor = Extractor(shape=(1,), channel_config=empty_as_zeros)
    injector.out_port.connect(extractor.in_port)
    models = {Injector: PyLoihiInjectorModel, Extractor: PyLoihiExtractorModel}
    with InProcessRuntime(injector, Loihi2SimCfg(exception_proc_model_map=models)) as runtime:
        injector.send(np.array([5.0]))
        runtime.begin(1)
        while (received := extractor.receive()[0]) == 0:
            pass
    assert received == 5

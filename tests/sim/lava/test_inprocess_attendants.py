"""Our own ProcessModels in one OS process: they borrow greenlets, and share what cannot change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lava.magma.compiler.compiler_graphs import find_processes
from lava.proc.monitor.process import Monitor

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.fixedpoint.program import Program, ProgramBuilder
from loihi_mmfree.processes.neuron_group import NeuronGroup
from loihi_mmfree.processes.synapse import Delay
from loihi_mmfree.sim.lava.graph import SimulationConfig
from loihi_mmfree.sim.lava.runtimes.base import _connected_processes
from loihi_mmfree.sim.lava.runtimes.channels import InProcessChannel, InProcessInfrastructure
from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime

pytestmark = pytest.mark.usefixtures("nothing_left")


def counting() -> Program:
    """Adds 1 and its input to a state."""
    builder = ProgramBuilder()
    total = builder.add(builder.state("total", 16), builder.input("value", 16), bits=16)
    total = builder.add(total, builder.immediate(1), bits=16)
    builder.store("total", total)
    builder.send("out", total)
    return builder.build()


def neurons(name: str, executor: Any = None) -> NeuronGroup:
    return NeuronGroup(
        name=name,
        size=2,
        program=counting(),
        constants={},
        tables={},
        offset=0,
        depth=0,
        message_bits=24,
        strict=True,
        executor=executor,
    )


def ring(*processes: NeuronGroup | Delay) -> NeuronGroup | Delay:
    ends = [
        (each.value, each.out) if isinstance(each, NeuronGroup) else (each.s_in, each.a_out) for each in processes
    ]
    for (_, out), (following, _) in zip(ends, [*ends[1:], ends[0]], strict=True):
        out.connect(following)
    return processes[0]


class Failing:
    """An executor that fails on its third token."""

    def __init__(self) -> None:
        self.variables: dict[str, dict[str, np.ndarray]] = {"group": {"total": np.zeros(2, dtype=np.int64)}}
        self.tokens = 0

    def step(self, messages: list[np.ndarray]) -> list[np.ndarray]:
        self.tokens += 1
        if self.tokens == 3:
            raise ArithmeticError("three is too many")
        return [np.zeros(2, dtype=np.int32)]

    @property
    def counters(self) -> Any:
        return type("Counters", (), {"saturations": 0, "overflows": 0})


def test_a_cycle_with_a_delay_runs() -> None:
    group = ring(neurons("group"), Delay(name="delay", size=2, steps=1))
    with InProcessRuntime(group, SimulationConfig()) as runtime:
        runtime.run(4)
        assert group.total.get().tolist() == [15, 15]  # 1, then 1 + 1 + 1, 3 + 1 + 3, 7 + 1 + 7


def test_a_cycle_without_a_synapse_is_a_deadlock_that_names_those_who_wait() -> None:
    names = r"one \(NeuronGroup\) waits to receive on two\.out -> one\.value; two \(NeuronGroup\) waits"
    group = ring(neurons("one"), neurons("two"))
    with pytest.raises(SimulationError, match=names), InProcessRuntime(group, SimulationConfig()) as runtime:
        runtime.run(1)


def test_a_failure_names_the_process_and_the_time_step() -> None:
    group = ring(neurons("group", Failing), Delay(name="delay", size=2, steps=1))
    message = r"group \(NeuronGroup\) failed in time step 3: ArithmeticError: three is too many"
    with pytest.raises(SimulationError, match=message), InProcessRuntime(group, SimulationConfig()) as runtime:
        runtime.run(5)


def test_a_watched_state_is_seen_in_every_time_step() -> None:
    group, monitor = neurons("group"), Monitor()
    ring(group, Delay(name="delay", size=2, steps=1))
    monitor.probe(group.total, 4)
    with InProcessRuntime(group, SimulationConfig()) as runtime:
        runtime.run(4)
        (seen,) = monitor.get_data()["group"].values()
        assert seen[:, 0].tolist() == [1, 3, 7, 15]


def test_the_processes_found_are_those_that_lava_finds() -> None:
    groups = [neurons(f"group {number}") for number in range(4)]
    first = ring(groups[0], Delay(name="first", size=2, steps=1), groups[1], Delay(name="second", size=2, steps=2))
    groups[1].out.connect(groups[2].value)
    found = _connected_processes(first)
    assert set(found) == set(find_processes(first))
    assert len(found) == 5


@pytest.fixture
def channel() -> InProcessChannel:
    return InProcessChannel(InProcessInfrastructure(), "source", "destination", (3,), np.int32, 4)


def test_what_the_sender_changes_later_is_not_what_was_sent(channel: InProcessChannel) -> None:
    message = np.arange(3, dtype=np.int32)
    view = message[:]
    view.flags.writeable = False
    for sent in (message, view, np.broadcast_to(message, 3)):
        channel.src_port.send(sent)
    message[:] = 7
    assert [channel.dst_port.recv().tolist() for _ in range(3)] == [[0, 1, 2]] * 3


def test_what_is_shared_is_not_copied_for_who_takes_it(channel: InProcessChannel) -> None:
    message = np.arange(3, dtype=np.int32)
    message.flags.writeable = False
    channel.src_port.share(message)
    assert channel.dst_port.take() is message


def test_what_is_shared_is_an_own_array_for_who_receives_it(channel: InProcessChannel) -> None:
    message = np.arange(3, dtype=np.int32)
    message.flags.writeable = False
    channel.src_port.share(message)
    received = channel.dst_port.recv()
    received[:] = 7
    assert message.tolist() == [0, 1, 2]


def test_a_read_only_message_of_another_type_is_cast(channel: InProcessChannel) -> None:
    message = np.arange(3, dtype=np.int64)
    message.flags.writeable = False
    channel.src_port.share(message)
    assert channel.dst_port.take().dtype == np.int32

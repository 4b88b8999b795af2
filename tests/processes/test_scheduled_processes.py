from __future__ import annotations

import numpy as np
import pytest
from lava.proc.monitor.process import Monitor

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.fixedpoint.program import Program, ProgramBuilder
from loihi_mmfree.processes.host import LogitsSink, TokenSource
from loihi_mmfree.processes.neuron_group import NeuronGroup
from loihi_mmfree.processes.scheduled import ScheduledModel
from loihi_mmfree.processes.synapse import Delay
from loihi_mmfree.sim.lava.graph import SimulationConfig
from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime


def acting_steps(offset: int, depth: int, origin: int, tokens: int, steps: int) -> list[int]:
    """The steps, counted from 0, in which a process acts."""
    model = ScheduledModel({"inputs": (), "outputs": {}, "offset": offset, "depth": depth})
    model.schedule = np.array([origin, tokens])
    model.on_var_update()
    acting = []
    for step in range(steps):
        model.time_step = step + 1
        if model.acts:
            acting.append(step)
    return acting


def test_a_prompt_is_seen_in_successive_steps_after_the_offset() -> None:
    assert acting_steps(offset=3, depth=10, origin=0, tokens=4, steps=14) == [3, 4, 5, 6]


def test_single_tokens_follow_one_another_when_the_last_has_left() -> None:
    assert acting_steps(offset=2, depth=10, origin=0, tokens=1, steps=40) == [2, 13, 24, 35]


def test_a_second_burst_enters_when_the_last_token_of_the_first_has_left() -> None:
    assert acting_steps(offset=0, depth=5, origin=0, tokens=3, steps=12) == [0, 1, 2, 8, 9, 10]


def test_nothing_acts_before_the_origin() -> None:
    assert acting_steps(offset=1, depth=3, origin=7, tokens=2, steps=12) == [8, 9]


def test_without_depth_every_step_carries_a_token() -> None:
    assert acting_steps(offset=0, depth=0, origin=0, tokens=1, steps=4) == [0, 1, 2, 3]


def running_sum() -> Program:
    """Adds 1 and its input to a state in every step in which it acts, so that it notices every bubble."""
    builder = ProgramBuilder()
    total = builder.add(builder.state("total", 16), builder.input("value", 8), bits=16)
    total = builder.add(total, builder.immediate(1), bits=16)
    builder.store("total", total)
    builder.send("out", total)
    return builder.build()


class Chain:
    """The host, a delay of two steps, a neuron group, a delay of one step, and the host again."""

    def __init__(self, program: Program, tables: dict[str, np.ndarray] | None = None) -> None:
        self.depth = 3
        self.source = TokenSource(name="tokens", size=2, depth=3, buffer_size=4)
        first = Delay(name="first", size=2, steps=2)
        self.group = NeuronGroup(
            name="some.group",
            size=2,
            program=program,
            constants={},
            tables=tables or {},
            offset=2,
            depth=3,
            message_bits=20,
            strict=True,
        )
        last = Delay(name="last", size=2, steps=1)
        self.sink = LogitsSink(name="logits", size=2, offset=3, depth=3, buffer_size=4)
        self.source.out.connect(first.s_in)
        first.a_out.connect(self.group.value)
        self.group.out.connect(last.s_in)
        last.a_out.connect(self.sink.accumulators)

    def start(self) -> InProcessRuntime:
        return InProcessRuntime(self.source, SimulationConfig())

    def burst(self, runtime: InProcessRuntime, rows: np.ndarray) -> np.ndarray:
        runtime.begin(len(rows) + self.depth)
        for row in rows:
            runtime.send(self.source.row, row)
        logits = np.stack([runtime.receive(self.sink.logits) for _ in rows])
        runtime.wait()
        return logits


def test_bubbles_leave_the_state_alone() -> None:
    chain = Chain(running_sum())
    rows = np.array([[1, 10], [2, 20]], dtype=np.int32)
    with chain.start() as runtime:
        single = [chain.burst(runtime, row[np.newaxis]) for row in rows]
        total = chain.group.total.get()
    np.testing.assert_array_equal(np.concatenate(single), [[2, 11], [5, 32]])
    np.testing.assert_array_equal(total, [5, 32])


def test_the_host_changes_the_length_of_bursts_between_runs() -> None:
    chain = Chain(running_sum())
    rows = np.array([[1, 10], [2, 20], [3, 30]], dtype=np.int32)
    with chain.start() as runtime:
        chain.burst(runtime, rows[:1])
        for process in (chain.source, chain.group, chain.sink):
            process.schedule.set(np.array([4, 2]))
        logits = chain.burst(runtime, rows[1:])
    np.testing.assert_array_equal(logits, [[5, 32], [9, 63]])


def test_a_monitor_sees_the_state_in_every_time_step() -> None:
    chain = Chain(running_sum())
    monitor = Monitor()
    monitor.probe(chain.group.total, num_steps=4)
    with chain.start() as runtime:
        chain.burst(runtime, np.array([[7, 8]], dtype=np.int32))
        (seen,) = monitor.get_data()["some.group"].values()
    np.testing.assert_array_equal(seen, [[0, 0], [0, 0], [8, 9], [8, 9]])


def test_saturations_and_overflows_are_counted() -> None:
    builder = ProgramBuilder()
    doubled = builder.add(builder.input("value", 8), builder.input("value", 8), bits=8)
    builder.send("out", builder.saturate(doubled, 6))
    chain = Chain(builder.build())
    with chain.start() as runtime:
        logits = chain.burst(runtime, np.array([[100, 5]], dtype=np.int32))
        counters = chain.group.counters.get()
    np.testing.assert_array_equal(logits, [[31, 10]])
    np.testing.assert_array_equal(counters, [1, 1])


def test_an_error_in_a_program_names_the_group_and_the_time_step() -> None:
    builder = ProgramBuilder()
    builder.send("out", builder.table("short", builder.input("value", 8), 8))
    chain = Chain(builder.build(), {"short": np.arange(4)})
    where = r"some\.group \(NeuronGroup\) failed in time step 3: IndexError"
    with pytest.raises(SimulationError, match=where), chain.start() as runtime:
        chain.burst(runtime, np.array([[1, 9]], dtype=np.int32))


@pytest.mark.parametrize("name", ["schedule", "name", "time_step", "run"])
def test_a_port_cannot_take_a_name_that_lava_uses(name: str) -> None:
    builder = ProgramBuilder()
    builder.send("out", builder.input(name, 8))
    program = builder.build()
    with pytest.raises(ValueError, match="the name is taken"):
        NeuronGroup(
            name="group",
            size=1,
            program=program,
            constants={},
            tables={},
            offset=0,
            depth=0,
            message_bits=24,
            strict=False,
        )


def test_every_message_is_declared_with_the_bits_of_the_chip() -> None:
    chain = Chain(running_sum())
    with chain.start():
        declared = chain.group.model_class.out
    assert declared.precision == 20
    assert declared.d_type == np.int32

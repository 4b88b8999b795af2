"""Neuron programs over NumPy against a machine of plain Python integers that runs one neuron, one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.fixedpoint.interpreter import (
    Counters,
    Machine,
    overflowing,
    recurrence,
    run_program,
)
from loihi_mmfree.fixedpoint.program import Instruction, Port, Program, ProgramBuilder

Numbers = dict[str, int]
Cases = Callable[..., Any]


Oracle = Mapping[str, Callable[..., int]]


def one_step(
    oracle: Oracle,
    program: Program,
    inputs: Numbers,
    states: Numbers,
    constants: Numbers,
    tables: Mapping[str, list[int]],
) -> tuple[Numbers, Numbers, tuple[int, int]]:
    """Outputs, next states, saturations and overflows of one neuron in one time step."""
    registers: Numbers = {}
    outputs: Numbers = {}
    following = dict(states)
    saturations = overflows = 0
    loaded = {"input": inputs, "state": states, "constant": constants, "table": tables}
    for each in program.instructions:
        names = each.operands
        if each.operation == "store":
            following[names[0]] = registers[names[1]]
        elif each.operation == "send":
            outputs[names[0]] = registers[names[1]]
        else:
            first = [loaded[each.operation][names[0]]] if each.operation in loaded else []
            arguments = [registers[name] for name in names[len(first) :]]
            registers[each.target] = oracle[each.operation](each.immediate, *first, *arguments)
            saturations += each.operation == "saturate" and registers[each.target] != arguments[0]
        if each.target:
            overflows += not -(2 ** (each.bits - 1)) <= registers[each.target] < 2 ** (each.bits - 1)
    return outputs, following, (saturations, overflows)


def run_oracle(
    oracle: Oracle, case: Any
) -> tuple[dict[str, list[list[int]]], dict[str, list[int]], list[list[int]]]:
    """Outputs [T][n], final states [n], saturations and overflows [T][2] of a case."""
    steps, size = next(iter(case.inputs.values())).shape
    outputs: dict[str, list[list[int]]] = {
        port.name: [[0] * size for _ in range(steps)] for port in case.program.outputs
    }
    final: dict[str, list[int]] = {port.name: [0] * size for port in case.program.states}
    counted = [[0, 0] for _ in range(steps)]
    tables = {name: table.tolist() for name, table in case.tables.items()}
    for neuron in range(size):
        constants = {name: int(np.broadcast_to(v, size)[neuron]) for name, v in case.constants.items()}
        states = {name: int(v[neuron]) for name, v in case.states.items()}
        for step in range(steps):
            inputs = {name: int(v[step, neuron]) for name, v in case.inputs.items()}
            sent, states, found = one_step(oracle, case.program, inputs, states, constants, tables)
            counted[step] = [before + more for before, more in zip(counted[step], found, strict=True)]
            for name, value in sent.items():
                outputs[name][step][neuron] = value
        for name, value in states.items():
            final[name][neuron] = value
    return outputs, final, counted


def run(case: Any, strict: bool = False) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Counters]:
    """Outputs [T, n], final states [n] and counters by the interpreter."""
    machine = Machine(case.constants, case.tables, strict=strict)
    states = {name: value.copy() for name, value in case.states.items()}
    outputs = run_program(case.program, machine, case.inputs, states)
    shape = next(iter(case.inputs.values())).shape
    seen = {name: np.broadcast_to(value, shape) for name, value in outputs.items()}
    return seen, {name: np.broadcast_to(value, shape[1]) for name, value in states.items()}, machine.counters


class TestRandomPrograms:
    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_every_register_is_what_python_integers_give(
        self, cases: Cases, oracle: Oracle, data: st.DataObject
    ) -> None:
        case = data.draw(cases())
        outputs, states, _ = run(case)
        expected_outputs, expected_states, _ = run_oracle(oracle, case)
        assert {name: value.tolist() for name, value in outputs.items()} == expected_outputs
        assert {name: value.tolist() for name, value in states.items()} == expected_states

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_a_sequence_at_once_equals_token_by_token(self, cases: Cases, data: st.DataObject) -> None:
        case = data.draw(cases(stateful=True))
        whole, final, _ = run(case)
        steps = len(next(iter(case.inputs.values())))
        pieces, states = [], case.states
        for step in range(steps):
            now = {name: value[step : step + 1] for name, value in case.inputs.items()}
            outputs, states, _ = run(replace(case, inputs=now, states=states))
            pieces.append(outputs)
        for name, value in whole.items():
            assert np.array_equal(value, np.concatenate([piece[name] for piece in pieces]))
        for name, value in final.items():
            assert np.array_equal(value, states[name])

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_saturations_and_overflows_of_every_time_step_are_counted_neuron_by_neuron(
        self, cases: Cases, oracle: Oracle, data: st.DataObject
    ) -> None:
        case = narrowed(data.draw(cases()))
        machine = Machine(
            case.constants, case.tables, strict=True, neurons=next(iter(case.inputs.values())).shape[1]
        )
        run_program(case.program, machine, case.inputs, dict(case.states))
        counted = run_oracle(oracle, case)[2]
        assert machine.counted.tolist() == counted
        assert machine.counters == Counters(*np.sum(counted, axis=0).tolist())

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_registers_wide_enough_never_overflow(self, cases: Cases, data: st.DataObject) -> None:
        assert run(data.draw(cases()), strict=True)[2].overflows == 0

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_the_recurrence_split_keeps_every_instruction_once(self, cases: Cases, data: st.DataObject) -> None:
        program = data.draw(cases(stateful=True)).program
        parts = recurrence(program)
        assert sorted(map(str, sum(parts, ()))) == sorted(map(str, program.instructions))

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_what_precedes_and_follows_the_recurrence_touches_no_state(
        self, cases: Cases, data: st.DataObject
    ) -> None:
        first, _, last = recurrence(data.draw(cases(stateful=True)).program)
        assert not any(each.operation in ("state", "store") for each in first + last)


def narrowed(case: Any) -> Any:
    """The case with every register declared as 3 bits wide, so that many overflow."""
    narrow = tuple(replace(each, bits=3) if each.target else each for each in case.program.instructions)
    return replace(case, program=replace(case.program, instructions=narrow))


def echo(bits: int, build: Callable[[ProgramBuilder, str], str]) -> Program:
    """The program that sends what `build` makes of the input x."""
    builder = ProgramBuilder()
    builder.send("out", build(builder, builder.input("x", bits)))
    return builder.build()


def running_maximum() -> Program:
    """h' = max(h, x); sends h', and x + 1, which is outside the recurrence."""
    builder = ProgramBuilder()
    x = builder.input("x", 8)
    kept = builder.maximum(builder.state("h", 8), x)
    builder.store("h", kept)
    builder.send("maximum", kept)
    builder.send("next", builder.add(x, builder.immediate(1)))
    return builder.build()


class TestCounters:
    def test_every_clamped_value_is_counted(self) -> None:
        machine = Machine({}, {})
        program = echo(16, lambda b, x: b.saturate(x, 4))
        values = np.array([[-8, -7, 0], [7, 8, 900]])
        run_program(program, machine, {"x": values}, {})
        assert machine.counters == Counters(saturations=3, overflows=0)

    def test_strict_mode_counts_every_value_wider_than_its_register(self) -> None:
        machine = Machine({}, {}, strict=True)
        program = echo(8, lambda b, x: b.add(x, x, bits=8))
        run_program(program, machine, {"x": np.array([[-65, -64, 63, 64, 0]])}, {})
        assert machine.counters.overflows == 2

    def test_overflows_inside_a_recurrence_are_counted(self) -> None:
        builder = ProgramBuilder()
        total = builder.add(builder.state("h", 4), builder.input("x", 4), bits=4)
        builder.store("h", total)
        builder.send("out", total)
        machine = Machine({}, {}, strict=True)
        run_program(builder.build(), machine, {"x": np.full((4, 1), 3)}, {"h": np.zeros(1, dtype=np.int64)})
        # The sums are 3, 6, 9, 12: two leave four bits, and one of them is loaded again.
        assert machine.counters.overflows == 3

    def test_without_strict_mode_overflows_are_not_looked_for(self) -> None:
        machine = Machine({}, {})
        run_program(echo(8, lambda b, x: b.add(x, x, bits=8)), machine, {"x": np.array([[100]])}, {})
        assert machine.counters.overflows == 0

    def test_a_signed_register_holds_one_more_negative_than_positive_value(self) -> None:
        assert overflowing(np.array([-9, -8, 7, 8]), bits=4).tolist() == [True, False, False, True]

    def test_counts_stand_by_time_step(self) -> None:
        builder = ProgramBuilder()
        x = builder.input("x", 8)
        total = builder.add(builder.state("h", 5), builder.saturate(x, 4), bits=5)
        builder.store("h", total)
        builder.send("out", total)
        machine = Machine({}, {}, strict=True)
        values, states = np.array([[9, 1], [7, 9], [0, 3]]), {"h": np.zeros(2, dtype=np.int64)}
        run_program(builder.build(), machine, {"x": values}, states)
        # Sums: 7 and 1, 14 and 8, 14 and 11.
        assert machine.counted.tolist() == [[1, 0], [1, 0], [0, 0]]
        run_program(builder.build(), machine, {"x": values}, states)
        # Sums: 21 and 12, then 28 and 19, then 28 and 22; a state that does not fit overflows where it is loaded.
        assert machine.counted.tolist() == [[1, 1], [1, 3], [0, 4]]
        assert machine.counters == Counters(saturations=4, overflows=8)

    @pytest.mark.parametrize("neurons", [1, 3])
    def test_what_is_the_same_for_all_neurons_counts_for_each_of_them_in_each_time_step(
        self, neurons: int
    ) -> None:
        builder = ProgramBuilder()
        alike = builder.saturate(builder.immediate(100), 4)
        builder.send("out", builder.add(builder.input("x", 8), alike))
        machine = Machine({}, {}, neurons=neurons)
        run_program(builder.build(), machine, {"x": np.zeros((2, 1), dtype=np.int64)}, {})
        assert machine.counted.tolist() == [[neurons, 0], [neurons, 0]]


class TestStates:
    def test_the_state_is_carried_on_in_place(self) -> None:
        states = {"h": np.array([-5, 3])}
        sequence = {"x": np.array([[1, 1], [-9, 7]])}
        outputs = run_program(running_maximum(), Machine({}, {}), sequence, states)
        assert outputs["maximum"].tolist() == [[1, 3], [1, 7]]
        assert states["h"].tolist() == [1, 7]

    def test_a_program_that_loads_after_it_stores_still_sees_the_previous_step(self) -> None:
        program = Program(
            (Port("x", 8),),
            (Port("out", 8),),
            (Port("h", 8),),
            (
                Instruction("input", "x", ("x",), bits=8),
                Instruction("store", "", ("h", "x")),
                Instruction("state", "before", ("h",), bits=8),
                Instruction("send", "", ("out", "before")),
            ),
        )
        sequence = {"x": np.array([[1], [2], [3]])}
        outputs = run_program(program, Machine({}, {}), sequence, {"h": np.array([9])})
        assert outputs["out"].tolist() == [[9], [1], [2]]

    def test_only_what_lies_between_load_and_store_walks_through_the_sequence(self) -> None:
        first, core, last = recurrence(running_maximum())
        assert [each.operation for each in first] == ["input", "immediate", "add"]
        assert [each.operation for each in core] == ["state", "max", "store"]
        assert [each.operation for each in last] == ["send", "send"]

    def test_a_state_that_is_set_to_a_constant_keeps_its_shape(self) -> None:
        builder = ProgramBuilder()
        builder.input("x", 8)
        builder.send("out", builder.state("h", 8))
        builder.store("h", builder.immediate(5))
        states = {"h": np.zeros(3, dtype=np.int64)}
        outputs = run_program(builder.build(), Machine({}, {}), {"x": np.zeros((2, 3), dtype=np.int64)}, states)
        assert outputs["out"].tolist() == [[0, 0, 0], [5, 5, 5]]


@pytest.mark.parametrize(
    ("shift", "expected"), [(-3, [-8, 8, 24]), (0, [-1, 1, 3]), (1, [0, 1, 2]), (2, [0, 0, 1])]
)
def test_a_shift_to_the_right_rounds_half_up_and_one_to_the_left_loses_nothing(
    shift: int, expected: list[int]
) -> None:
    program = echo(8, lambda b, x: b.shift(x, shift))
    outputs = run_program(program, Machine({}, {}), {"x": np.array([[-1, 1, 3]])}, {})
    assert outputs["out"].tolist() == [expected]


@settings(max_examples=50, deadline=None)
@given(value=st.integers(-(2**30), 2**30), count=st.integers(1, 20))
def test_high_and_low_part_of_a_split_give_the_value_back(value: int, count: int) -> None:
    builder = ProgramBuilder()
    for name, part in zip(("high", "low"), builder.split(builder.input("x", 32), count), strict=True):
        builder.send(name, part)
    outputs = run_program(builder.build(), Machine({}, {}), {"x": np.array([[value]])}, {})
    high, low = int(outputs["high"][0, 0]), int(outputs["low"][0, 0])
    assert 0 <= low < 2**count
    assert high * 2**count + low == value

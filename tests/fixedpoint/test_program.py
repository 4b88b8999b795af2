"""Neuron programs as data: what makes one valid, and how it travels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.fixedpoint.operations import OPERATIONS
from loihi_mmfree.fixedpoint.program import Instruction, Port, Program, ProgramBuilder

Cases = Callable[..., Any]
LOAD = Instruction("input", "x", ("in",), bits=8)
SEND = Instruction("send", "", ("out", "x"))


def program(*instructions: Instruction, state: bool = False) -> Program:
    """A program with one input, one output and, if asked for, one state."""
    return Program((Port("in", 8),), (Port("out", 8),), (Port("h", 8),) if state else (), instructions)


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        pytest.param(
            [LOAD, Instruction("divide", "y", ("x", "x"), bits=8), SEND], "unknown operation", id="unknown"
        ),
        pytest.param([LOAD, Instruction("add", "y", ("x",), bits=8), SEND], "2 operands, found 1", id="operands"),
        pytest.param([Instruction("input", "x", ("other",), bits=8), SEND], "no input 'other'", id="no-input"),
        pytest.param([Instruction("state", "x", ("h",), bits=8), SEND], "no state 'h'", id="no-state"),
        pytest.param([LOAD, Instruction("store", "", ("h", "x")), SEND], "no state 'h'", id="no-such-store"),
        pytest.param([LOAD, Instruction("send", "", ("o", "x")), SEND], "no output 'o'", id="no-such-output"),
        pytest.param(
            [Instruction("absolute", "x", ("y",), bits=8), SEND], r"reads \['y'\] before", id="unwritten"
        ),
        pytest.param([SEND, LOAD], r"reads \['x'\] before", id="sent-too-early"),
        pytest.param([LOAD, LOAD, SEND], "'x' is unnamed or written twice", id="twice"),
        pytest.param([replace(LOAD, target=""), SEND], "'' is unnamed", id="unnamed"),
        pytest.param([LOAD, SEND, SEND], "'out' is written twice", id="sent-twice"),
        pytest.param([replace(LOAD, bits=1), SEND], "2 to 63 bits, found 1", id="narrow"),
        pytest.param([replace(LOAD, bits=64), SEND], "2 to 63 bits, found 64", id="wide"),
        pytest.param(
            [LOAD, Instruction("shift_right", "y", ("x",), -1, 8), SEND], r"-1 is not in 0\.\.62", id="negative"
        ),
        pytest.param(
            [LOAD, Instruction("shift_left", "y", ("x",), 63, 8), SEND], r"63 is not in 0\.\.62", id="too-far"
        ),
        pytest.param(
            [LOAD, Instruction("add", "y", ("x", "x"), 1, 9), SEND], r"1 is not in 0\.\.0", id="no-immediate"
        ),
        pytest.param([LOAD, replace(SEND, immediate=1)], r"1 is not in 0\.\.0", id="effect-with-immediate"),
        pytest.param([LOAD, replace(SEND, target="y")], "writes no register", id="effect-with-target"),
        pytest.param([LOAD, replace(SEND, bits=8)], "writes no register", id="effect-with-width"),
        pytest.param([LOAD], r"never writes \['out'\]", id="silent"),
    ],
)
def test_a_program_that_breaks_a_rule_is_refused(instructions: list[Instruction], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        program(*instructions)


def test_a_state_that_is_never_stored_is_refused() -> None:
    with pytest.raises(ValueError, match=r"never writes \['h'\]"):
        program(LOAD, SEND, state=True)


def test_a_literal_may_be_negative_and_large() -> None:
    literal = Instruction("immediate", "x", (), -(2**40), 42)
    assert program(literal, SEND).instructions[0].immediate == -(2**40)


def test_the_fault_is_named_by_position_and_operation() -> None:
    with pytest.raises(ValueError, match=r"instruction 1 \(add\)"):
        program(LOAD, Instruction("add", "y", ("x",), bits=8), SEND)


def test_constants_and_tables_are_listed_once_in_order_of_use() -> None:
    builder = ProgramBuilder()
    x = builder.input("x", 4)
    for name in ("b", "a", "b"):
        builder.constant(name, 8)
        builder.table(f"table_{name}", x, 8)
    found = builder.build()
    assert found.constants == ("b", "a")
    assert found.tables == ("table_b", "table_a")


class TestDescription:
    @settings(max_examples=50, deadline=None)
    @given(data=st.data())
    def test_a_program_comes_back_from_json_as_it_was(self, cases: Cases, data: st.DataObject) -> None:
        original = data.draw(cases()).program
        assert Program.from_dict(json.loads(json.dumps(original.to_dict()))) == original

    @settings(max_examples=100, deadline=None)
    @given(
        garbage=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_infinity=False) | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["inputs", "outputs", "states", "instructions"]), inner, max_size=4
                )
            ),
            max_leaves=12,
        )
    )
    def test_garbage_raises_value_error_or_happens_to_be_a_program(self, garbage: Any) -> None:
        try:
            found = Program.from_dict(garbage)
        except ValueError:
            return
        assert Program.from_dict(found.to_dict()) == found

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_a_damaged_description_raises_value_error_or_is_a_program(
        self, cases: Cases, data: st.DataObject
    ) -> None:
        description = data.draw(cases()).program.to_dict()
        rows = description[data.draw(st.sampled_from(["inputs", "outputs", "instructions"]))]
        row = rows[data.draw(st.integers(0, len(rows) - 1))]
        field = data.draw(st.integers(0, len(row) - 1))
        row[field] = data.draw(
            st.none() | st.integers(-(2**70), 2**70) | st.text(max_size=3) | st.lists(st.text(max_size=2))
        )
        try:
            found = Program.from_dict(description)
        except ValueError:
            return
        assert Program.from_dict(found.to_dict()) == found

    @pytest.mark.parametrize("missing", ["inputs", "outputs", "states", "instructions"])
    def test_a_missing_part_is_named(self, missing: str) -> None:
        description = program(LOAD, SEND).to_dict()
        del description[missing]
        with pytest.raises(ValueError, match=f"not a neuron program: '{missing}'"):
            Program.from_dict(description)

    @pytest.mark.parametrize("number", [True, 1.0, 1.5, float("nan"), float("inf"), "1", None, [1]])
    @pytest.mark.parametrize("field", [3, 4])
    def test_an_immediate_or_a_width_that_is_no_whole_number_is_refused(self, number: Any, field: int) -> None:
        description = program(LOAD, Instruction("shift_left", "y", ("x",), 1, 9), SEND).to_dict()
        description["instructions"][1][field] = number
        with pytest.raises(ValueError, match=r"not a neuron program: .* is no whole number"):
            Program.from_dict(description)

    @pytest.mark.parametrize("number", [True, 8.0, float("inf"), "8", None])
    def test_a_port_whose_width_is_no_whole_number_is_refused(self, number: Any) -> None:
        description = program(LOAD, SEND).to_dict()
        description["inputs"][0][1] = number
        with pytest.raises(ValueError, match=r"not a neuron program: .* is no whole number"):
            Program.from_dict(description)

    @pytest.mark.parametrize("name", [1, None, ["x"], True])
    @pytest.mark.parametrize("field", [0, 1])
    def test_an_operation_or_a_register_that_is_no_text_is_refused(self, name: Any, field: int) -> None:
        description = program(LOAD, SEND).to_dict()
        description["instructions"][0][field] = name
        with pytest.raises(ValueError, match=r"not a neuron program: .* is no name"):
            Program.from_dict(description)

    @pytest.mark.parametrize("operation", sorted(OPERATIONS))
    @pytest.mark.parametrize("beyond", [-1, 1, 2**70, -(2**70)])
    def test_no_operation_takes_an_immediate_out_of_its_range(self, operation: str, beyond: int) -> None:
        low, high = OPERATIONS[operation].immediate or (0, 0)
        immediate = low - 1 if beyond == -1 else high + 1 if beyond == 1 else beyond
        operands = tuple("x" for _ in range(OPERATIONS[operation].operands))
        target, bits = ("y", 8) if OPERATIONS[operation].result else ("", 0)
        with pytest.raises(ValueError, match=rf"\({operation}\): immediate {immediate} is not in {low}\.\.{high}"):
            program(LOAD, Instruction(operation, target, operands, immediate, bits), SEND)

    @pytest.mark.parametrize(
        ("operation", "found"),
        [
            (name, each.operands + more)
            for name, each in sorted(OPERATIONS.items())
            for more in (-1, 1)
            if each.operands + more >= 0
        ],
    )
    def test_no_operation_takes_fewer_or_more_operands(self, operation: str, found: int) -> None:
        count = OPERATIONS[operation].operands
        target, bits = ("y", 8) if OPERATIONS[operation].result else ("", 0)
        with pytest.raises(ValueError, match=rf"\({operation}\): {count} operands, found {found}"):
            program(LOAD, Instruction(operation, target, ("x",) * found, 0, bits), SEND)

    @pytest.mark.parametrize("bits", [-3, 0, 1, 64])
    def test_a_port_is_as_wide_as_a_register_may_be(self, bits: int) -> None:
        description = program(LOAD, SEND).to_dict()
        description["inputs"][0][1] = bits
        with pytest.raises(ValueError, match="bits"):
            Program.from_dict(description)

    @pytest.mark.parametrize("kind", ["inputs", "outputs"])
    def test_two_ports_of_one_name_are_refused(self, kind: str) -> None:
        description = program(LOAD, SEND).to_dict()
        description[kind] *= 2
        with pytest.raises(ValueError, match="twice"):
            Program.from_dict(description)

    def test_a_literal_beyond_the_specification_is_refused(self) -> None:
        with pytest.raises(ValueError, match="immediate"):
            program(Instruction("immediate", "x", (), 2**70, 63), SEND)

    @pytest.mark.parametrize(("operation", "count"), [("saturate", 0), ("mantissa", 1), ("exponent", 0)])
    def test_a_bit_count_without_meaning_is_refused(self, operation: str, count: int) -> None:
        with pytest.raises(ValueError, match="immediate"):
            program(LOAD, Instruction(operation, "y", ("x",), count, 8), SEND)


class TestBuilder:
    def test_declares_widths_that_no_value_of_the_operands_leaves(self) -> None:
        builder = ProgramBuilder()
        a, b = builder.input("a", 8), builder.input("b", 12)
        registers = {
            "add": builder.add(a, b),
            "sub": builder.sub(a, b),
            "mul": builder.mul(a, b),
            "left": builder.shift(a, -3),
            "right": builder.shift(b, 3),
            "maximum": builder.maximum(a, b),
            "saturate": builder.saturate(b, 5),
            "mantissa": builder.mantissa(b, 16),
        }
        widths = {name: builder.widths[register] for name, register in registers.items()}
        assert widths == {
            "add": 13,
            "sub": 13,
            "mul": 19,
            "left": 11,
            "right": 10,
            "maximum": 12,
            "saturate": 5,
            "mantissa": 17,
        }

    def test_a_shift_by_nothing_writes_no_instruction(self) -> None:
        builder = ProgramBuilder()
        x = builder.input("x", 8)
        assert builder.shift(x, 0) == x
        assert len(builder.instructions) == 1

    def test_there_is_neither_division_nor_floating_point_nor_a_jump(self) -> None:
        assert set(OPERATIONS) == {
            *("input", "state", "constant", "immediate", "table", "store", "send"),
            *("add", "sub", "mul", "absolute", "min", "max", "saturate", "select", "lerp"),
            *("shift_left", "shift_right", "shift_right_by", "high_bits", "low_bits", "exponent", "mantissa"),
        }

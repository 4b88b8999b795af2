"""The overflow proof: what it lets pass can never overflow, and it names each thing it does not let pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.fixedpoint.interpreter import Machine, run_program
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.program import Instruction, Program, ProgramBuilder
from loihi_mmfree.fixedpoint.proof import Violation, analyse

Cases = Callable[..., Any]


def ranges(case: Any) -> dict[str, Interval]:
    return {name: Interval(*ends) for name, ends in case.ends.items()}


def prove(case: Any) -> tuple[dict[str, Interval], list[Violation]]:
    return analyse(case.program, "group", ranges(case), case.constants, case.tables)


def narrowed(program: Program, instruction: int, by: int) -> Program:
    """The program with one register declared `by` bits narrower."""
    instructions = list(program.instructions)
    each = instructions[instruction]
    instructions[instruction] = replace(each, bits=max(2, each.bits - by))
    return replace(program, instructions=tuple(instructions))


class TestSoundness:
    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_every_register_stays_in_its_interval(self, cases: Cases, data: st.DataObject) -> None:
        case = data.draw(cases())
        intervals, _ = prove(case)
        states = {name: value.copy() for name, value in case.states.items()}
        outputs = run_program(case.program, Machine(case.constants, case.tables), case.inputs, states)
        for name, values in outputs.items():
            assert np.all(values >= intervals[name].low), name
            assert np.all(values <= intervals[name].high), name

    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_a_program_without_violations_never_overflows(self, cases: Cases, data: st.DataObject) -> None:
        case = data.draw(cases())
        written = [n for n, each in enumerate(case.program.instructions) if each.target]
        position, by = data.draw(st.sampled_from(written)), data.draw(st.integers(0, 8))
        case = replace(case, program=narrowed(case.program, position, by))
        _, violations = prove(case)
        machine = Machine(case.constants, case.tables, strict=True)
        states = {name: value.copy() for name, value in case.states.items()}
        run_program(case.program, machine, case.inputs, states)
        assert violations or machine.counters.overflows == 0

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_registers_as_wide_as_their_values_give_no_violation(self, cases: Cases, data: st.DataObject) -> None:
        assert prove(data.draw(cases()))[1] == []


def analyse_one(
    build: Callable[[ProgramBuilder, str], str],
    low: int,
    high: int,
    bits: int = 32,
    tables: dict[str, np.ndarray] | None = None,
) -> tuple[Interval, list[Violation]]:
    """Interval and violations of what `build` makes of an input between `low` and `high`."""
    builder = ProgramBuilder()
    builder.send("out", build(builder, builder.input("x", bits)))
    given_range = Interval(np.array([low]), np.array([high]))
    outputs, violations = analyse(builder.build(), "group", {"x": given_range}, {}, tables or {})
    return outputs["out"], violations


class TestTightness:
    @pytest.mark.parametrize(("low", "high", "least", "greatest"), [(-3, 2, 0, 9), (2, 5, 4, 25), (-5, -2, 4, 25)])
    def test_a_square_is_never_negative(self, low: int, high: int, least: int, greatest: int) -> None:
        found, _ = analyse_one(lambda b, x: b.mul(x, x), low, high)
        assert (found.lowest, found.highest) == (least, greatest)

    @pytest.mark.parametrize(("low", "high", "least", "greatest"), [(-3, 2, 0, 3), (2, 5, 2, 5), (-5, -2, 2, 5)])
    def test_a_magnitude_is_that_of_the_end_farther_from_zero(
        self, low: int, high: int, least: int, greatest: int
    ) -> None:
        found, _ = analyse_one(lambda b, x: b.absolute(x), low, high)
        assert (found.lowest, found.highest) == (least, greatest)

    def test_a_condition_that_is_certain_selects_one_side(self) -> None:
        found, _ = analyse_one(lambda b, x: b.select(x, b.immediate(1), b.immediate(100)), 0, 9)
        assert (found.lowest, found.highest) == (1, 1)

    def test_a_table_gives_the_range_of_the_entries_that_can_be_read(self) -> None:
        table = np.array([1000, 3, 1, 2, -1000])
        found, _ = analyse_one(lambda b, x: b.table("t", x, 16), 1, 3, tables={"t": table})
        assert (found.lowest, found.highest) == (1, 3)

    def test_a_convex_combination_stays_between_its_ends_for_ever(self) -> None:
        builder = ProgramBuilder()
        weight = builder.split(builder.input("w", 17), 15)[1]
        state = builder.lerp(weight, builder.state("h", 16), builder.input("x", 16), 15)
        builder.store("h", state)
        builder.send("out", state)
        inputs = {"w": Interval.symmetric(17), "x": Interval.symmetric(16)}
        outputs, violations = analyse(builder.build(), "group", inputs, {}, {})
        assert violations == []
        assert outputs["out"].magnitude == 2**15 - 1


def _accumulate(b: ProgramBuilder, x: str) -> str:
    total = b.add(b.state("h", 16), x)
    b.store("h", total)
    return total


class TestViolations:
    @pytest.mark.parametrize(
        ("build", "low", "high", "what", "found", "allowed"),
        [
            pytest.param(
                lambda b, x: b.add(x, x, bits=8), 0, 64, "instruction 1 (add): 8-bit register", 128, 127, id="wide"
            ),
            pytest.param(
                lambda b, x: b.add(x, x, bits=8), -65, 0, "instruction 1 (add): 8-bit register", 130, 127, id="low"
            ),
            pytest.param(
                lambda b, x: b.mul(b.mul(x, x, bits=63), x, bits=63),
                -(2**21), 2**21, "instruction 2 (mul): 63-bit specification", 2**63, 2**62 - 1, id="product",
            ),
            pytest.param(
                lambda b, x: b.shift(x, -40, bits=63),
                0, 2**23, "instruction 1 (shift_left): 63-bit specification", 2**63, 2**62 - 1, id="left",
            ),
            pytest.param(
                lambda b, x: b.shift_right_by(b.immediate(1), x),
                -1, 5, "instruction 2 (shift_right_by): shift distance", -1, 0, id="negative-distance",
            ),
            pytest.param(
                lambda b, x: b.shift_right_by(b.immediate(1), x),
                0, 63, "instruction 2 (shift_right_by): shift distance", 63, 62, id="great-distance",
            ),
            pytest.param(
                lambda b, x: b.lerp(x, b.immediate(1), b.immediate(0), 4),
                0, 17, "instruction 3 (lerp): weight of a convex combination", 17, 16, id="weight-above-one",
            ),
            pytest.param(
                lambda b, x: b.lerp(x, b.immediate(1), b.immediate(0), 4),
                -1, 16, "instruction 3 (lerp): weight of a convex combination", -1, 0, id="negative-weight",
            ),
            pytest.param(
                lambda b, x: b.mantissa(x, 16),
                -2, 5, "instruction 1 (mantissa): only a non-negative value has an exponent and a mantissa", -2, 0,
                id="mantissa",
            ),
            pytest.param(
                lambda b, x: b.exponent(x, 16),
                -2, 5, "instruction 1 (exponent): only a non-negative value has an exponent and a mantissa", -2, 0,
                id="exponent",
            ),
            pytest.param(
                lambda b, x: b.table("t", x, 8),
                0, 3, "instruction 1 (table): index into table t", 3, 2, id="index-above",
            ),
            pytest.param(
                lambda b, x: b.table("t", x, 8),
                -1, 2, "instruction 1 (table): index into table t", -1, 0, id="index-below",
            ),
            pytest.param(
                _accumulate, 0, 1, "state h does not stay in its range", 2**15, 2**15 - 1, id="growing-state"
            ),
        ],
    )  # fmt: skip
    def test_names_the_instruction_and_the_bound(
        self,
        build: Callable[[ProgramBuilder, str], str],
        low: int,
        high: int,
        what: str,
        found: int,
        allowed: int,
    ) -> None:
        _, violations = analyse_one(build, low, high, tables={"t": np.array([5, 6, 7])})
        assert violations == [Violation("group", what, found, allowed)]

    def test_an_input_wider_than_it_is_declared_is_one(self) -> None:
        _, violations = analyse_one(lambda b, x: x, -200, 100, bits=8)
        assert [(each.found, each.allowed) for each in violations] == [(200, 127)]

    def test_a_constant_wider_than_it_is_declared_is_one(self) -> None:
        builder = ProgramBuilder()
        builder.send("out", builder.constant("gain", 8))
        _, violations = analyse(builder.build(), "group", {}, {"gain": np.array([5, 128])}, {})
        assert [(each.found, each.allowed) for each in violations] == [(128, 127)]

    def test_each_is_reported_and_a_wide_register_only_once(self) -> None:
        def build(b: ProgramBuilder, x: str) -> str:
            wide = b.add(x, x, bits=8)
            b.add(wide, b.immediate(0), bits=9)
            return b.shift_right_by(x, x)

        _, violations = analyse_one(build, -100, 100)
        assert [each.what for each in violations] == [
            "instruction 1 (add): 8-bit register",
            "instruction 4 (shift_right_by): shift distance",
        ]

    def test_the_text_says_where_what_found_and_allowed(self) -> None:
        assert str(Violation("layers.3.glu", "8-bit register", 300, 127)) == (
            "layers.3.glu: 8-bit register: found 300, allowed 127"
        )

    def test_a_convex_combination_whose_products_leave_the_specification_is_one(self) -> None:
        def build(b: ProgramBuilder, x: str) -> str:
            wide = b.shift(x, -28, bits=60)
            return b.lerp(b.immediate(1 << 20), wide, wide, 20)

        _, violations = analyse_one(build, 0, 2**30)
        assert violations


class TestInterval:
    @pytest.mark.parametrize(
        ("low", "high", "bits", "fits"),
        [(-128, 127, 8, True), (-129, 0, 8, False), (0, 128, 8, False), (-1, 1, 2, True)],
    )
    def test_fits_the_signed_range(self, low: int, high: int, bits: int, fits: bool) -> None:
        assert Interval(np.array([low]), np.array([high])).fits(bits) is fits

    def test_symmetric_is_what_saturation_leaves(self) -> None:
        found = Interval.symmetric(8)
        assert (found.lowest, found.highest, found.magnitude) == (-127, 127, 127)

    def test_the_hull_holds_both_neuron_by_neuron(self) -> None:
        first = Interval(np.array([-1, 5]), np.array([2, 6]))
        second = Interval(np.array([0]), np.array([3]))
        hull = first.hull(second)
        assert (hull.low.tolist(), hull.high.tolist()) == ([-1, 0], [3, 6])

    def test_neurons_are_followed_one_by_one(self) -> None:
        builder = ProgramBuilder()
        builder.send("out", builder.mul(builder.input("x", 8), builder.constant("gain", 8)))
        given_range = Interval(np.array([-10, 0]), np.array([1, 20]))
        outputs, _ = analyse(builder.build(), "group", {"x": given_range}, {"gain": np.array([3, -2])}, {})
        assert (outputs["out"].low.tolist(), outputs["out"].high.tolist()) == ([-30, -40], [3, 0])


def test_instructions_are_numbered_as_in_the_listing() -> None:
    program = Program(
        (), (), (), (Instruction("immediate", "a", (), 5, 8), Instruction("immediate", "b", (), 300, 8))
    )
    _, violations = analyse(program, "group", {}, {}, {})
    assert [each.what for each in violations] == ["instruction 1 (immediate): 8-bit register"]

"""A new operation is one entry of the table: whoever reads the table knows it, without the entry nobody does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from loihi_mmfree.fixedpoint.interpreter import Machine, run_program
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.listing import instruction_table, listing
from loihi_mmfree.fixedpoint.operations import OPERATIONS, Operand, Operation, Result
from loihi_mmfree.fixedpoint.program import Instruction, Port, Program, ProgramBuilder
from loihi_mmfree.fixedpoint.proof import analyse

Cases = Callable[..., Any]
WRAP = Operation(
    (Operand("a"), Operand("m", "modulus", "1 to 2^n", lambda n, _: (1, 2**n))),
    "a mod m",
    Result(
        lambda _, a, m: a % m,
        lambda _, a, m: Interval(np.zeros_like(m.low), m.high - 1),
        width=lambda n, a, m: n + 1,
    ),
    immediate=(1, 20),
)


@pytest.fixture
def wrap(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an operation that was put into the table."""
    monkeypatch.setitem(OPERATIONS, "wrap", WRAP)  # type: ignore[arg-type]
    return "wrap"


def program(operation: str, immediate: int = 4) -> Program:
    """Send what an operation makes of two inputs."""
    return Program(
        (Port("a", 16), Port("m", 16)),
        (Port("out", 8),),
        (),
        (
            Instruction("input", "a", ("a",), bits=16),
            Instruction("input", "m", ("m",), bits=16),
            Instruction(operation, "result", ("a", "m"), immediate, 8),
            Instruction("send", "", ("out", "result")),
        ),
    )


def test_without_an_entry_no_program_has_it() -> None:
    with pytest.raises(ValueError, match=r"instruction 2 \(wrap\): unknown operation; there are input, state, "):
        program("wrap")


def test_validation_takes_its_immediate_and_operands_from_the_entry(wrap: str) -> None:
    assert Program.from_dict(program(wrap).to_dict()) == program(wrap)
    with pytest.raises(ValueError, match=r"immediate 21 is not in 1\.\.20"):
        program(wrap, 21)


def test_the_interpreter_computes_it(wrap: str) -> None:
    inputs = {"a": np.array([[7, -7, 9]]), "m": np.array([[5, 5, 3]])}
    assert run_program(program(wrap), Machine({}, {}), inputs, {})["out"].tolist() == [[2, 3, 0]]


def test_the_proof_follows_it_and_holds_operands_to_what_it_demands(wrap: str) -> None:
    a = Interval(np.array([-9]), np.array([9]))
    outputs, violations = analyse(program(wrap), "group", {"a": a, "m": a}, {}, {})
    assert (outputs["out"].lowest, outputs["out"].highest) == (0, 8)
    assert [str(each) for each in violations] == ["group: instruction 2 (wrap): modulus: found -9, allowed 1"]


def test_the_builder_writes_it_as_wide_as_the_entry_says(wrap: str) -> None:
    builder = ProgramBuilder()
    register = builder.write(wrap, builder.input("a", 16), builder.input("m", 16), immediate=4)
    assert builder.widths[register] == 5


def test_the_listing_and_the_documentation_show_it(wrap: str) -> None:
    assert "wrap            result:8 <- a, m, #4" in listing(program(wrap))
    assert (
        "| `wrap` | `a, m, #n` | a mod m | n from 1 to 20; m from 1 to 2^n |" in instruction_table().splitlines()
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_programs_draw_it_with_operands_that_it_allows(
    cases: Cases, wrap: str, data: st.DataObject
) -> None:
    case = data.draw(cases(operations=[wrap]))
    assert any(each.operation == wrap for each in case.program.instructions)
    ranges = {name: Interval(*ends) for name, ends in case.ends.items()}
    assert analyse(case.program, "group", ranges, case.constants, case.tables)[1] == []


def test_random_programs_draw_every_operation_unless_they_are_told_which(wrap: str, cases: Cases) -> None:
    def uses(name: str, case: Any) -> bool:
        return any(each.operation == name for each in case.program.instructions)

    searching = settings(max_examples=2000, deadline=None, database=None, phases=[Phase.generate])
    for name, each in OPERATIONS.items():
        if not each.reads_from_outside and name != "store":
            find(cases(), partial(uses, name), settings=searching)

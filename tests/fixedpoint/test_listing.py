"""Programs as text for whoever writes neurocore microcode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.fixedpoint.listing import instruction_table, listing
from loihi_mmfree.fixedpoint.operations import OPERATIONS
from loihi_mmfree.fixedpoint.program import ProgramBuilder

Cases = Callable[..., Any]
ROOT = Path(__file__).parents[2]


def test_reads_like_this() -> None:
    b = ProgramBuilder()
    x = b.input("x", 16)
    entry = b.table("sigmoid", b.split(x, 4)[1], bits=17)
    kept = b.lerp(entry, b.state("h", 16), b.constant("bound", 12), 15)
    b.store("h", kept)
    b.send("out", b.add(b.shift(kept, 3), b.immediate(-5)))
    assert list(listing(b.build())) == [
        "input           r0:16 <- x",
        "high_bits       r1:12 <- r0, #4",
        "low_bits        r2:5 <- r0, #4",
        "table           r3:17 <- sigmoid, r2",
        "state           r4:16 <- h",
        "constant        r5:12 <- bound",
        "lerp            r6:16 <- r3, r4, r5, #15",
        "store           h, r6",
        "shift_right     r7:14 <- r6, #3",
        "immediate       r8:4 <- #-5",
        "add             r9:15 <- r7, r8",
        "send            out, r9",
    ]


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_has_one_line_for_each_instruction_with_the_width_of_what_it_writes(
    cases: Cases, data: st.DataObject
) -> None:
    program = data.draw(cases()).program
    lines = listing(program)
    assert len(lines) == len(program.instructions)
    for line, each in zip(lines, program.instructions, strict=True):
        assert line.startswith(each.operation)
        assert not each.target or f" {each.target}:{each.bits} <- " in line
        assert all(operand in line for operand in each.operands)


def test_the_specification_shows_every_instruction_as_the_table_of_operations_has_it() -> None:
    page = (ROOT / "docs" / "fixed-point.md").read_text()
    assert instruction_table() in page, f"docs/fixed-point.md, Instructions, should hold:\n{instruction_table()}"


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_limits_as_text_are_those_that_are_held(name: str) -> None:
    for each in OPERATIONS[name].registers:
        assert bool(each.limits) == bool(each.allowed) == bool(each.demand)
        if each.allowed:
            for n, entries in ((2, 5), (7, 257)):
                ends = [
                    eval(end.replace("^", "**"), {"n": n, "entries": entries}) for end in each.limits.split(" to ")
                ]
                assert tuple(ends) == each.allowed(n, entries)

"""Programs as text for whoever writes neurocore microcode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.fixedpoint.listing import listing
from loihi_mmfree.fixedpoint.program import ProgramBuilder

Cases = Callable[..., Any]


def test_reads_like_this() -> None:
    b = ProgramBuilder()
    x = b.input("x", 16)
    entry = b.table("sigmoid", b.split(x, 4)[1], bits=17)
    kept = b.lerp(entry, b.state("h", 16), b.constant("bound", 12), 15)
    b.store("h", kept)
    b.send("out", b.add(b.shift(kept, 3), b.immediate(-5)))
    assert listing(b.build()).splitlines() == [
        "; inputs   x:16",
        "; states   h:16",
        "; outputs  out:15",
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
    lines = [line for line in listing(program).splitlines() if not line.startswith(";")]
    assert len(lines) == len(program.instructions)
    for line, each in zip(lines, program.instructions, strict=True):
        assert line.startswith(each.operation)
        assert not each.target or f" {each.target}:{each.bits} <- " in line
        assert all(operand in line for operand in each.operands)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_the_header_names_every_port_with_its_width(cases: Cases, data: st.DataObject) -> None:
    program = data.draw(cases(stateful=True)).program
    header = [line for line in listing(program).splitlines() if line.startswith(";")]
    assert len(header) == 3
    for line, ports in zip(header, (program.inputs, program.states, program.outputs), strict=True):
        assert line.split(maxsplit=2)[2] == ", ".join(f"{port.name}:{port.bits}" for port in ports)

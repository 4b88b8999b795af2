"""Neuron programs as text: one instruction a line, for people who write neurocore microcode."""

from __future__ import annotations

from loihi_mmfree.fixedpoint.program import Instruction, Program

_WITH_IMMEDIATE = frozenset(
    {"immediate", "shift_left", "shift_right", "high_bits", "low_bits", "saturate", "lerp", "exponent", "mantissa"}
)


def _line(each: Instruction) -> str:
    operands = ", ".join(each.operands)
    if each.operation in _WITH_IMMEDIATE:
        operands = f"{operands}, #{each.immediate}" if operands else f"#{each.immediate}"
    if not each.target:
        return f"{each.operation:<15} {operands}"
    return f"{each.operation:<15} {each.target}:{each.bits} <- {operands}"


def listing(program: Program) -> str:
    """Return the listing of a program.

    A header names the inputs, states and outputs with their widths; `r7:16 <- ...` writes register 7, which
    is declared 16 bits wide; `#5` is an immediate.
    """
    header = [
        f"; {kind:<8} " + ", ".join(f"{port.name}:{port.bits}" for port in ports)
        for kind, ports in (
            ("inputs", program.inputs),
            ("states", program.states),
            ("outputs", program.outputs),
        )
        if ports
    ]
    return "\n".join([*header, *(_line(each) for each in program.instructions)])

"""Neuron programs, and the operations they are made of, as text: for people who write neurocore microcode."""

from __future__ import annotations

from loihi_mmfree.fixedpoint.operations import OPERATIONS, Operation
from loihi_mmfree.fixedpoint.program import Instruction, Program


def listing(program: Program) -> tuple[str, ...]:
    """Return a program as lines, one for each instruction.

    `r7:16 <- ...` writes register 7, which is declared 16 bits wide; `#5` is an immediate.
    """
    return tuple(_line(each) for each in program.instructions)


def _line(each: Instruction) -> str:
    immediate = [] if OPERATIONS[each.operation].immediate is None else [f"#{each.immediate}"]
    operands = ", ".join([*each.operands, *immediate])
    if not each.target:
        return f"{each.operation:<15} {operands}"
    return f"{each.operation:<15} {each.target}:{each.bits} <- {operands}"


def form(operation: Operation) -> str:
    """Return the operands of an operation as a listing writes them: names in capitals, n for the immediate."""
    named = [] if operation.named is None else [operation.named.value.upper()]
    immediate = [] if operation.immediate is None else ["#n"]
    return ", ".join([*named, *(operand.name for operand in operation.registers), *immediate])


def instruction_table() -> str:
    """Return the table of operations as Markdown, as docs/fixed-point.md shows it."""
    rows = [
        (f"`{name}`", f"`{form(each)}`", each.meaning, "; ".join(_conditions(each)))
        for name, each in OPERATIONS.items()
    ]
    head = ("instruction", "operands", "meaning", "allowed")
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


def _conditions(operation: Operation) -> list[str]:
    """What an operation demands of its immediate and its operands."""
    found = [] if operation.immediate is None else ["n from {} to {}".format(*map(_number, operation.immediate))]
    return found + [f"{each.name} from {each.limits}" for each in operation.registers if each.limits]


def _number(value: int) -> str:
    """A number, those next to a large power of two by the power."""
    if abs(value) < 1 << 16:
        return str(value)
    power = f"2^{(abs(value) + 1).bit_length() - 1}"
    return f"-{power}" if value < 0 else f"{power} - 1"

"""From a neuron program to numbers that its machine code (`kernels.programs.codegen`) reads.

Registers become places in a small scratch memory, reused as soon as their last reader is done. What depends
on neither inputs nor states is computed here, once, by the specification itself. Imports no numba.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Machine
from loihi_mmfree.fixedpoint.program import Instruction, Program
from loihi_mmfree.sim.engine.kernels.programs.ranges import widths_hold
from loihi_mmfree.sim.engine.kernels.programs.structure import Lane


class Code(IntEnum):
    """What a row of machine code does."""

    INPUT = 0
    STATE = 1
    ADD = 2
    SUB = 3
    MUL = 4
    SHIFT_LEFT = 5
    SHIFT_RIGHT = 6
    SHIFT_RIGHT_BY = 7
    HIGH_BITS = 8
    LOW_BITS = 9
    ABSOLUTE = 10
    MIN = 11
    MAX = 12
    SATURATE = 13
    SELECT = 14
    LERP = 15
    EXPONENT = 16
    MANTISSA = 17
    TABLE = 18
    STORE = 19
    SEND = 20


WIDTH = 8
"""Columns of machine code: code, target, three operands, immediate, bits, spare.

Registers are given by number. Of named operands, the first operand column holds the position of the input,
state, table or output in the program's own list of them.
"""
TARGET, FIRST, SECOND, THIRD, IMMEDIATE, BITS = range(1, 7)
NARROW_BITS = 31
"""A register of so many bits is held in a lane of 32, with room to add the half of a rounding shift."""


@dataclass(frozen=True)
class Assembled:
    """Machine code of a program and what belongs to it.

    Parameters
    ----------
    code : int64 array [instructions, WIDTH]
        For every chunk of neurons and every token.
    fixed : tuple of (register, int64 array)
        Registers to fill beforehand: one value, or one for each neuron.
    registers : int
        Number of registers.
    fixed_counts : int64 array [1, 2]
        Saturations and overflows that evaluating `fixed` counts in every time step.
    lanes : tuple of Lane
        How wide each instruction computes and each of `fixed` is; empty if the declared widths of inputs and
        states do not prove all others.
    """

    code: NDArray[np.int64]
    fixed: tuple[tuple[int, Integers], ...]
    registers: int
    fixed_counts: NDArray[np.int64]
    lanes: tuple[Lane, ...]


def assemble(
    program: Program,
    constants: Mapping[str, Integers],
    tables: Mapping[str, Integers],
    strict: bool,
    neurons: int,
) -> Assembled:
    """Translate a program.

    Parameters
    ----------
    program : Program
    constants, tables : mapping name -> int64 array
    strict : bool
        Whether overflows are counted.
    neurons : int
        Size of the group.
    """
    moving = _moving_registers(program)
    still = tuple(each for each in program.instructions if each.target and each.target not in moving)
    machine = Machine(constants, tables, strict, neurons)
    machine.execute(still, {}, {})
    stores = [each for each in program.instructions if each.operation == "store"]
    # A state is read as the last time step left it, wherever the program writes it.
    body = [each for each in program.instructions if each not in still and each.operation != "store"] + stores
    used = {name for each in body for name in each.registers}
    fixed = {each.target: machine.registers[each.target] for each in still if each.target in used}
    places = {name: number for number, name in enumerate(fixed)}
    count = _place_registers(body, places)
    lists = {
        "input": [port.name for port in program.inputs],
        "state": [port.name for port in program.states],
        "store": [port.name for port in program.states],
        "send": [port.name for port in program.outputs],
        "table": list(program.tables),
    }
    code = np.array([_row(each, places, lists) for each in body], dtype=np.int64).reshape(-1, WIDTH)
    numbered = tuple((places[name], value) for name, value in fixed.items())
    proven = widths_hold(program, constants, tables)
    lanes = _lanes(program, body, list(fixed)) if proven else ()
    return Assembled(code, numbered, count, machine.counted, lanes)


def _lanes(program: Program, body: list[Instruction], fixed: list[str]) -> tuple[Lane, ...]:
    """Return how wide each instruction of the body computes, then how wide each fixed register is."""
    bits = {each.target: each.bits for each in program.instructions if each.target}
    found = [_lane(each, [bits[name] for name in each.registers]) for each in body]
    return (*found, *(Lane.WIDE if bits[name] > NARROW_BITS else Lane.NARROW for name in fixed))


def _lane(each: Instruction, operands: list[int]) -> Lane:
    """Return how wide an instruction has to compute, given the widths of its operands."""
    if each.operation in ("store", "send", "input", "state"):
        return Lane.WIDE if each.bits > NARROW_BITS else Lane.NARROW
    if each.bits > NARROW_BITS:
        return Lane.WIDE
    match each.operation:
        case "table":
            wide = False
        case "shift_right_by" | "exponent" | "mantissa":
            wide = True
        case "lerp":
            # |w a + (1 - w) b|, rounded, stays below this power of two.
            wide = max(operands[1:]) - 1 + each.immediate > NARROW_BITS
        case "select":
            wide = max(operands[1:]) > NARROW_BITS
        case _:
            wide = max(operands) > NARROW_BITS or each.immediate > NARROW_BITS - 1
    return Lane.WIDE_INSIDE if wide else Lane.NARROW


def _moving_registers(program: Program) -> set[str]:
    """Return the registers that depend on inputs or states."""
    moving: set[str] = set()
    for each in program.instructions:
        if each.operation in ("input", "state") or any(name in moving for name in each.registers):
            moving.add(each.target)
    return moving - {""}


def _place_registers(body: list[Instruction], places: dict[str, int]) -> int:
    """Give every register of the body a number that nobody else needs meanwhile; return how many there are."""
    last_reader = {name: number for number, each in enumerate(body) for name in each.registers}
    kept = set(places)
    count, free = len(places), list[int]()
    for number, each in enumerate(body):
        if each.target:
            if not free:
                free.append(count)
                count += 1
            places[each.target] = free.pop()
        # Freed after the target was placed: no instruction overwrites what it reads.
        done = {name for name in each.registers if last_reader[name] == number} - kept
        if each.target and each.target not in last_reader:
            done.add(each.target)
        free += [places[name] for name in sorted(done)]
    return count


def _row(each: Instruction, places: Mapping[str, int], lists: Mapping[str, list[str]]) -> list[int]:
    named = lists.get(each.operation)
    operands = [named.index(each.operands[0])] if named is not None else []
    operands += [places[name] for name in each.registers]
    operands += [0] * (3 - len(operands))
    target = places[each.target] if each.target else 0
    return [int(Code[each.operation.upper()]), target, *operands, each.immediate, each.bits or 64, 0]

"""From a neuron program to numbers that its machine code (`kernels.programs.codegen`) reads.

Registers become places in a small scratch memory, reused as soon as their last reader is done. What depends
on neither inputs nor states is computed here, once, by the specification itself. Imports no numba.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Machine
from loihi_mmfree.fixedpoint.operations import OPERATIONS, Named
from loihi_mmfree.fixedpoint.program import Instruction, Program
from loihi_mmfree.sim.engine.kernels.programs.ranges import NARROW_BITS, rule_of, widths_hold
from loihi_mmfree.sim.engine.kernels.programs.structure import Lane, Row

WIDTH = 2
"""Columns of the numbers that the machine code of an instruction reads."""
IMMEDIATE, BITS = range(WIDTH)


@dataclass(frozen=True)
class Assembled:
    """A program with registers by number, and what belongs to it.

    Parameters
    ----------
    instructions : tuple of Row
        For every chunk of neurons and every token.
    numbers : int64 array [instructions, WIDTH]
        Immediate and declared bits of each.
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

    instructions: tuple[Row, ...]
    numbers: NDArray[np.int64]
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
    acting = [each for each in program.instructions if not each.target or each.target in moving]
    # A state is read as the last time step left it, wherever the program writes it.
    body = [each for each in acting if not _stores(each)] + [each for each in acting if _stores(each)]
    used = {name for each in body for name in each.registers}
    fixed = {each.target: machine.registers[each.target] for each in still if each.target in used}
    places = {name: number for number, name in enumerate(fixed)}
    count = _place_registers(body, places)
    lists = {
        Named.INPUT: [port.name for port in program.inputs],
        Named.STATE: [port.name for port in program.states],
        Named.OUTPUT: [port.name for port in program.outputs],
        Named.TABLE: list(program.tables),
    }
    rows = tuple(_row(each, places, lists) for each in body)
    # What an instruction without register declares is never looked at.
    numbers = np.array([[each.immediate, each.bits or 64] for each in body], dtype=np.int64).reshape(-1, WIDTH)
    numbered = tuple((places[name], value) for name, value in fixed.items())
    proven = widths_hold(program, constants, tables)
    lanes = _lanes(program, body, list(fixed)) if proven else ()
    return Assembled(rows, numbers, numbered, count, machine.counted, lanes)


def _lanes(program: Program, body: list[Instruction], fixed: list[str]) -> tuple[Lane, ...]:
    """Return how wide each instruction of the body computes, then how wide each fixed register is."""
    bits = {each.target: each.bits for each in program.instructions if each.target}
    found = [_lane(each, [bits[name] for name in each.registers]) for each in body]
    return (*found, *(Lane.WIDE if bits[name] > NARROW_BITS else Lane.NARROW for name in fixed))


def _lane(each: Instruction, operands: list[int]) -> Lane:
    """Return how wide an instruction has to compute, given the widths of its operands."""
    if each.bits > NARROW_BITS:
        return Lane.WIDE
    wide = bool(each.target) and rule_of(each).wide(each.immediate, *operands)
    return Lane.WIDE_INSIDE if wide else Lane.NARROW


def _stores(each: Instruction) -> bool:
    operation = OPERATIONS[each.operation]
    return operation.result is None and operation.named is Named.STATE


def _moving_registers(program: Program) -> set[str]:
    """Return the registers that depend on inputs or states."""
    moving: set[str] = set()
    for each in program.instructions:
        if OPERATIONS[each.operation].reads_from_outside or any(name in moving for name in each.registers):
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


def _row(each: Instruction, places: Mapping[str, int], lists: Mapping[Named, list[str]]) -> Row:
    """Return an instruction with numbers for names: of a register, or the position in the program's own list."""
    named = OPERATIONS[each.operation].named
    if named is Named.CONSTANT:
        raise NotImplementedError(f"the assembler of the kernels has no rule for {each.operation!r} of a constant")
    operands = [] if named is None else [lists[named].index(each.operands[0])]
    operands += [places[name] for name in each.registers]
    return each.operation, places[each.target] if each.target else 0, *operands

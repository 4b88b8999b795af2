"""Neuron programs in the vector unit's registers: order, literals, and which register holds what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from loihi_mmfree.errors import DoesNotFitError
from loihi_mmfree.fixedpoint.operations import OPERATIONS, Named
from loihi_mmfree.fixedpoint.program import Instruction, Program
from loihi_mmfree.rtl.instructions import VectorInstruction

Place = Callable[[Instruction], Iterable[VectorInstruction]]
"""Gives the instructions of the core for one of a program, without registers: several where a message goes to
several places, none where nobody reads it."""


def independent_parts(program: Program) -> tuple[frozenset[str], ...]:
    """Return the outputs of a program in sets that share no work but loads, in the order of their sends.

    A program with states is one set: a state is read and written once in a token.
    """
    ports = [port.name for port in program.outputs]
    if program.states or len(ports) < 2:
        return (frozenset(ports),)
    parts: list[tuple[set[str], set[str]]] = []
    for port in ports:
        work = {each.target for each in _needed(program, {port}) if not _loads(each)}
        shared = [part for part in parts if part[1] & work]
        names = {port}.union(*(part[0] for part in shared))
        parts = [part for part in parts if part not in shared] + [
            (names, work.union(*(part[1] for part in shared)))
        ]
    return tuple(frozenset(names) for names, _ in parts)


def instructions_for(program: Program, ports: frozenset[str]) -> tuple[Instruction, ...]:
    """Return the instructions that some outputs need, with what is stored at the end: a state is read before."""
    needed = (
        _needed(program, set(ports)) if ports < {port.name for port in program.outputs} else program.instructions
    )
    return tuple(sorted(needed, key=_stores))


def assemble(
    instructions: Sequence[Instruction], place: Place, registers: int, where: str
) -> list[VectorInstruction]:
    """Give every instruction its registers.

    Parameters
    ----------
    instructions : sequence of Instruction
    place : callable
        What becomes of each.
    registers : int
        How many there are.
    where : str
        The group, for messages.

    Raises
    ------
    DoesNotFitError
        More values are alive at once than there are registers.
    """
    last_read = {name: at for at, each in enumerate(instructions) for name in each.registers}
    bits = {each.target: each.bits for each in instructions}
    free, held = list(range(registers - 1, -1, -1)), dict[str, int]()
    made: list[VectorInstruction] = []
    for at, each in enumerate(instructions):
        sources = tuple(held[name] for name in _ordered(each, bits))
        for name in dict.fromkeys(each.registers):
            if last_read[name] == at:
                free.append(held.pop(name))
        target = 0
        if each.target and each.target in last_read:
            if not free:
                raise DoesNotFitError(
                    f"{where}: its program holds more than the {registers} registers of a lane at once; give the "
                    "core more (`registers`)"
                )
            target = held[each.target] = free.pop()
        elif each.target:
            continue
        made += [replace(placed, target=target, sources=sources) for placed in place(each)]
    if made:
        made[-1] = replace(made[-1], last=True)
    return made


def _ordered(each: Instruction, bits: Mapping[str, int]) -> tuple[str, ...]:
    """The registers it reads, the wider factor of a product first."""
    if each.operation == "mul" and bits[each.registers[0]] < bits[each.registers[1]]:
        return each.registers[::-1]
    return each.registers


def _needed(program: Program, ports: set[str]) -> tuple[Instruction, ...]:
    """What leads to some outputs, in order."""
    read: set[str] = set()
    found = []
    for each in reversed(program.instructions):
        if each.target in read or (not each.target and each.operands[0] in ports):
            found.append(each)
            read.update(each.registers)
    return tuple(reversed(found))


def _loads(each: Instruction) -> bool:
    operation = OPERATIONS[each.operation]
    return not operation.registers or operation.result is None


def _stores(each: Instruction) -> bool:
    operation = OPERATIONS[each.operation]
    return operation.result is None and operation.named is Named.STATE

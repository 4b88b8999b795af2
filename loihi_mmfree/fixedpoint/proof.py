"""Neuron programs over intervals: the proof that no register can overflow (rules R1 to R3).

Every register is followed as the range of values it can take, neuron by neuron. A violation is a register
whose range does not fit its declared width, an operand outside what its operation demands (an index outside the
table, a shift by a negative distance), or a state whose stored range leaves the range it was assumed to have when
it was loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.operations import MAX_REGISTER_BITS, OPERATIONS, Named, Operand, Operation, Result
from loihi_mmfree.fixedpoint.program import Instruction, Program


@dataclass(frozen=True)
class Violation:
    """One bound that cannot be guaranteed.

    Parameters
    ----------
    where, what : str
        The node, and what of it.
    found, allowed : int
    needs : (str, int), optional
        The limit of the chip that stands in the way, as `ChipSpec` names it, and the least that would do.
    """

    where: str
    what: str
    found: int
    allowed: int
    needs: tuple[str, int] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: found {self.found}, allowed {self.allowed}"


class _Analysis:
    """The ranges of one program's registers, and what went wrong."""

    def __init__(
        self,
        where: str,
        inputs: Mapping[str, Interval],
        states: Mapping[str, Interval],
        constants: Mapping[str, Integers],
        tables: Mapping[str, Integers],
    ) -> None:
        self.where, self.inputs, self.states = where, inputs, states
        self.constants, self.tables = constants, tables
        self.ranges: dict[str, Interval] = {}
        self.outputs: dict[str, Interval] = {}
        self.violations: list[Violation] = []

    def violate(self, what: str, found: int, allowed: int) -> None:
        self.violations.append(Violation(self.where, what, found, allowed))

    def step(self, position: int, each: Instruction) -> None:
        """Follow one instruction."""
        operation, label = OPERATIONS[each.operation], f"instruction {position} ({each.operation})"
        if operation.result is None:
            self._effect(each, operation)
            return
        found = self._evaluate(each, operation, operation.result, label)
        if not found.fits(each.bits):
            self.violate(f"{label}: {each.bits}-bit register", found.magnitude, (1 << (each.bits - 1)) - 1)
            limit = 1 << (each.bits - 1)
            found = found.clipped(-limit, limit - 1)
        self.ranges[each.target] = found

    def _effect(self, each: Instruction, operation: Operation) -> None:
        name, found = each.operands[0], self.ranges[each.registers[0]]
        if operation.named is Named.OUTPUT:
            self.outputs[name] = found
            return
        assumed = self.states[name]
        if found.lowest < assumed.lowest or found.highest > assumed.highest:
            self.violate(f"state {name} does not stay in its range", found.magnitude, assumed.magnitude)

    def _evaluate(self, each: Instruction, operation: Operation, result: Result, label: str) -> Interval:
        named = self._named(each, operation)
        ranges = [
            self._demanded(each, operand, self.ranges[name], label)
            for operand, name in zip(operation.registers, each.registers, strict=True)
        ]
        if result.intermediate is not None:
            largest = result.intermediate(each.immediate, *(found.magnitude for found in ranges))
            if largest >= 1 << (MAX_REGISTER_BITS - 1):
                self.violate(f"{label}: 63-bit specification", largest, (1 << (MAX_REGISTER_BITS - 1)) - 1)
                return Interval.symmetric(MAX_REGISTER_BITS)
        if result.repeated is not None and len(set(each.registers)) == 1:
            return result.repeated(each.immediate, ranges[0])
        return result.interval(each.immediate, *named, *ranges)

    def _named(self, each: Instruction, operation: Operation) -> tuple[Interval | Integers, ...]:
        """What an instruction loads by name, as its interval rule takes it, or nothing."""
        if operation.named is None:
            return ()
        name = each.operands[0]
        if operation.named is Named.TABLE:
            return (self.tables[name],)
        if operation.named is Named.CONSTANT:
            return (Interval.exactly(self.constants[name]),)
        return ((self.inputs if operation.named is Named.INPUT else self.states)[name],)

    def _demanded(self, each: Instruction, operand: Operand, found: Interval, label: str) -> Interval:
        """The part of a register's range that an operation takes; what lies outside is a violation."""
        if operand.allowed is None:
            return found
        table = each.operands[0] if OPERATIONS[each.operation].named is Named.TABLE else ""
        low, high = operand.allowed(each.immediate, len(self.tables[table]) if table else 0)
        if found.lowest < low or found.highest > high:
            what = f"{label}: {operand.demand} {table}".rstrip()
            self.violate(what, *((found.lowest, low) if found.lowest < low else (found.highest, high)))
            return found.clipped(low, high)
        return found


def analyse(
    program: Program,
    where: str,
    inputs: Mapping[str, Interval],
    constants: Mapping[str, Integers],
    tables: Mapping[str, Integers],
) -> tuple[dict[str, Interval], list[Violation]]:
    """Run a program over intervals.

    Parameters
    ----------
    program : Program
    where : str
        Name of the node, for the violations.
    inputs : mapping name -> Interval
        Range of each input; checked against its declared width.
    constants, tables : mapping name -> int64 array

    Returns
    -------
    outputs : dict port -> Interval
    violations : list of Violation
        Empty if nothing can overflow for any sequence of inputs, however long.
    """
    states = {port.name: Interval.symmetric(port.bits) for port in program.states}
    analysis = _Analysis(where, inputs, states, constants, tables)
    for position, each in enumerate(program.instructions):
        analysis.step(position, each)
    return analysis.outputs, analysis.violations

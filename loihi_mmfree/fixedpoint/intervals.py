"""Neuron programs over intervals: the proof that no register can overflow (rules R1 to R3).

Every register is followed as the range of values it can take, neuron by neuron. A violation is a register
whose range does not fit its declared width, a table read outside the table, a shift by a negative distance,
or a state whose stored range leaves the range it was assumed to have when it was loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from loihi_mmfree.fixedpoint import arithmetic
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.program import MAX_REGISTER_BITS, Instruction, Program


@dataclass(frozen=True)
class Interval:
    """Inclusive bounds, one for each neuron [n] or one for all [1]."""

    low: Integers
    high: Integers

    @classmethod
    def symmetric(cls, bits: int) -> Interval:
        """Everything a saturated value of `bits` bits can be."""
        limit = (1 << (bits - 1)) - 1
        return cls(np.array([-limit]), np.array([limit]))

    @classmethod
    def exactly(cls, values: Integers) -> Interval:
        """Known values."""
        return cls(values, values)

    @property
    def lowest(self) -> int:
        """Least value of any neuron."""
        return int(self.low.min())

    @property
    def highest(self) -> int:
        """Greatest value of any neuron."""
        return int(self.high.max())

    @property
    def magnitude(self) -> int:
        """Greatest magnitude of any neuron."""
        return max(-self.lowest, self.highest, 0)

    def hull(self, other: Interval) -> Interval:
        """Smallest interval that holds both."""
        return Interval(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def fits(self, bits: int) -> bool:
        """Whether every value fits a signed integer of `bits` bits."""
        limit = 1 << (bits - 1)
        return self.lowest >= -limit and self.highest < limit


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


def _corners(function: object, first: Interval, second: Interval) -> Interval:
    """Range of a function that is monotone in each argument: the extremes lie at the corners."""
    values = np.stack(
        np.broadcast_arrays(
            *(function(a, b) for a in (first.low, first.high) for b in (second.low, second.high))  # type: ignore[operator]
        )
    )
    return Interval(values.min(axis=0), values.max(axis=0))


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
        label = f"instruction {position} ({each.operation})"
        if each.operation == "send":
            self.outputs[each.operands[0]] = self.ranges[each.operands[1]]
        elif each.operation == "store":
            self._check_invariant(each)
        else:
            found = self._evaluate(each, label)
            if not found.fits(each.bits):
                self.violate(f"{label}: {each.bits}-bit register", found.magnitude, (1 << (each.bits - 1)) - 1)
                limit = 1 << (each.bits - 1)
                found = Interval(np.clip(found.low, -limit, limit - 1), np.clip(found.high, -limit, limit - 1))
            self.ranges[each.target] = found

    def _check_invariant(self, each: Instruction) -> None:
        name, found = each.operands[0], self.ranges[each.operands[1]]
        assumed = self.states[name]
        if found.lowest < assumed.lowest or found.highest > assumed.highest:
            self.violate(f"state {name} does not stay in its range", found.magnitude, assumed.magnitude)

    def _evaluate(self, each: Instruction, label: str) -> Interval:
        operation, immediate = each.operation, each.immediate
        if operation == "input":
            return self.inputs[each.operands[0]]
        if operation == "state":
            return self.states[each.operands[0]]
        if operation == "constant":
            return Interval.exactly(self.constants[each.operands[0]])
        if operation == "immediate":
            return Interval.exactly(np.array([immediate]))
        if operation == "table":
            return self._table(each, label)
        ranges = [self.ranges[name] for name in each.operands]
        if operation == "mul":
            return self._product(each, label, ranges)
        if operation == "shift_right_by":
            return self._shift_by(label, *ranges)
        if operation == "lerp":
            return self._lerp(label, immediate, *ranges)
        if operation == "select":
            condition, yes, no = ranges
            return yes if condition.lowest >= 0 else no if condition.highest < 0 else yes.hull(no)
        if operation in ("exponent", "mantissa"):
            return self._normalize(label, operation, immediate, ranges[0])
        if operation == "shift_left":
            if ranges[0].magnitude >= 1 << (MAX_REGISTER_BITS - immediate):
                self.violate(f"{label}: 63-bit specification", ranges[0].magnitude, 1 << 62)
                return Interval.symmetric(MAX_REGISTER_BITS)
            return Interval(ranges[0].low << immediate, ranges[0].high << immediate)
        if operation == "low_bits":
            return Interval(np.array([0]), np.array([(1 << immediate) - 1]))
        if operation == "high_bits":
            return Interval(ranges[0].low >> immediate, ranges[0].high >> immediate)
        if operation == "absolute":
            crosses_zero = (ranges[0].low <= 0) & (ranges[0].high >= 0)
            ends = np.abs(ranges[0].low), np.abs(ranges[0].high)
            return Interval(np.where(crosses_zero, 0, np.minimum(*ends)), np.maximum(*ends))
        if operation == "shift_right":
            low, high = (arithmetic.rounding_shift(end, immediate) for end in (ranges[0].low, ranges[0].high))
            return Interval(low, high)
        if operation == "saturate":
            low, high = (arithmetic.saturate(end, immediate) for end in (ranges[0].low, ranges[0].high))
            return Interval(low, high)
        first, second = ranges
        if operation == "add":
            return Interval(first.low + second.low, first.high + second.high)
        if operation == "sub":
            return Interval(first.low - second.high, first.high - second.low)
        function = np.minimum if operation == "min" else np.maximum
        return Interval(function(first.low, second.low), function(first.high, second.high))

    def _product(self, each: Instruction, label: str, ranges: list[Interval]) -> Interval:
        first, second = ranges
        if first.magnitude * second.magnitude >= 1 << (MAX_REGISTER_BITS - 1):
            self.violate(f"{label}: 63-bit specification", first.magnitude * second.magnitude, (1 << 62) - 1)
            return Interval.symmetric(MAX_REGISTER_BITS)
        corners = _corners(np.multiply, first, second)
        if each.operands[0] == each.operands[1]:
            crosses_zero = (first.low <= 0) & (first.high >= 0)
            squares = np.minimum(first.low * first.low, first.high * first.high)
            return Interval(np.where(crosses_zero, 0, squares), corners.high)
        return corners

    def _shift_by(self, label: str, value: Interval, distance: Interval) -> Interval:
        if distance.lowest < 0 or distance.highest >= MAX_REGISTER_BITS:
            wrong = distance.lowest if distance.lowest < 0 else distance.highest
            self.violate(f"{label}: shift distance", wrong, MAX_REGISTER_BITS - 1)
            distance = Interval(np.clip(distance.low, 0, 62), np.clip(distance.high, 0, 62))
        return _corners(arithmetic.rounding_shift, value, distance)

    def _lerp(self, label: str, bits: int, weight: Interval, at_one: Interval, at_zero: Interval) -> Interval:
        if weight.lowest < 0 or weight.highest > 1 << bits:
            wrong = weight.lowest if weight.lowest < 0 else weight.highest
            self.violate(f"{label}: weight of a convex combination", wrong, 1 << bits)
        largest = max(at_one.magnitude, at_zero.magnitude) << bits
        if largest >= 1 << (MAX_REGISTER_BITS - 1):
            self.violate(f"{label}: 63-bit specification", largest, (1 << (MAX_REGISTER_BITS - 1)) - 1)
        return at_one.hull(at_zero)

    def _normalize(self, label: str, operation: str, bits: int, value: Interval) -> Interval:
        if value.lowest < 0:
            self.violate(f"{label}: only a non-negative value has a mantissa", value.lowest, 0)
        positive = Interval(np.maximum(value.low, 0), np.maximum(value.high, 0))
        if operation == "exponent":
            least, greatest = (
                arithmetic.even_exponent(np.maximum(end, 1), bits) for end in (positive.low, positive.high)
            )
            zero_possible = positive.low == 0
            return Interval(
                np.where(zero_possible, np.minimum(least, 0), least),
                np.where(zero_possible, np.maximum(greatest, 0), greatest),
            )
        smallest = np.where(positive.low == 0, 0, 1 << (bits - 2))
        return Interval(smallest, np.full_like(smallest, (1 << bits) - 1))

    def _table(self, each: Instruction, label: str) -> Interval:
        table, index = self.tables[each.operands[0]], self.ranges[each.operands[1]]
        if index.lowest < 0 or index.highest >= len(table):
            wrong = index.lowest if index.lowest < 0 else index.highest
            self.violate(f"{label}: index into table {each.operands[0]}", wrong, len(table) - 1)
        part = table[max(index.lowest, 0) : index.highest + 1]
        reachable = part if len(part) else table
        return Interval(np.array([reachable.min()]), np.array([reachable.max()]))


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

"""Intervals of integers, neuron by neuron, and the rule by which each operation carries them on.

A rule is sound: whatever its operands are within their intervals, and within what the operation demands of them
(:class:`.operations.Operand`), the result lies within the interval that it returns. Every rule takes the
instruction's immediate and the intervals of its operands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from loihi_mmfree.fixedpoint import arithmetic
from loihi_mmfree.fixedpoint.arithmetic import Integers


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

    def clipped(self, low: int, high: int) -> Interval:
        """Both ends held between two bounds."""
        return Interval(np.clip(self.low, low, high), np.clip(self.high, low, high))

    def fits(self, bits: int) -> bool:
        """Whether every value fits a signed integer of `bits` bits."""
        limit = 1 << (bits - 1)
        return self.lowest >= -limit and self.highest < limit


def known(_: int, value: Interval) -> Interval:
    """What is loaded is what it was."""
    return value


def literal(number: int) -> Interval:
    """A literal."""
    return Interval.exactly(np.array([number]))


def entries(_: int, table: Integers, index: Interval) -> Interval:
    """The entries of a table between two indices."""
    reachable = table[index.lowest : index.highest + 1]
    return Interval(np.array([reachable.min()]), np.array([reachable.max()]))


def total(_: int, a: Interval, b: Interval) -> Interval:
    """a + b."""
    return Interval(a.low + b.low, a.high + b.high)


def difference(_: int, a: Interval, b: Interval) -> Interval:
    """a - b."""
    return Interval(a.low - b.high, a.high - b.low)


def _corners(function: Callable[[Integers, Integers], Integers], a: Interval, b: Interval) -> Interval:
    """Range of a function that is monotone in each argument: the extremes lie at the corners."""
    found = [function(first, second) for first in (a.low, a.high) for second in (b.low, b.high)]
    values = np.stack(np.broadcast_arrays(*found))
    return Interval(values.min(axis=0), values.max(axis=0))


def product(_: int, a: Interval, b: Interval) -> Interval:
    """a * b."""
    return _corners(np.multiply, a, b)


def square(_: int, a: Interval) -> Interval:
    """a * a, which is never negative."""
    ends = a.low * a.low, a.high * a.high
    return Interval(np.where(_crosses_zero(a), 0, np.minimum(*ends)), np.maximum(*ends))


def _crosses_zero(a: Interval) -> np.ndarray:
    return (a.low <= 0) & (a.high >= 0)


def absolute(_: int, a: Interval) -> Interval:
    """|a|."""
    ends = np.abs(a.low), np.abs(a.high)
    return Interval(np.where(_crosses_zero(a), 0, np.minimum(*ends)), np.maximum(*ends))


def shift_left(distance: int, a: Interval) -> Interval:
    """A shift to the left."""
    return Interval(a.low << distance, a.high << distance)


def shift_right(distance: int, a: Interval) -> Interval:
    """A rounding shift."""
    return Interval(arithmetic.rounding_shift(a.low, distance), arithmetic.rounding_shift(a.high, distance))


def shift_right_by(_: int, a: Interval, distance: Interval) -> Interval:
    """A rounding shift by what a register holds."""
    return _corners(arithmetic.rounding_shift, a, distance)


def high_bits(count: int, a: Interval) -> Interval:
    """What lies above the lowest bits."""
    return Interval(a.low >> count, a.high >> count)


def low_bits(count: int, a: Interval) -> Interval:
    """What lies in the lowest bits."""
    return Interval(np.array([0]), np.array([(1 << count) - 1]))


def minimum(_: int, a: Interval, b: Interval) -> Interval:
    """The smaller one."""
    return Interval(np.minimum(a.low, b.low), np.minimum(a.high, b.high))


def maximum(_: int, a: Interval, b: Interval) -> Interval:
    """The larger one."""
    return Interval(np.maximum(a.low, b.low), np.maximum(a.high, b.high))


def saturate(bits: int, a: Interval) -> Interval:
    """A clamp."""
    return Interval(arithmetic.saturate(a.low, bits), arithmetic.saturate(a.high, bits))


def select(_: int, condition: Interval, at_least_zero: Interval, below_zero: Interval) -> Interval:
    """One of two, or either."""
    if condition.lowest >= 0:
        return at_least_zero
    return below_zero if condition.highest < 0 else at_least_zero.hull(below_zero)


def lerp(_: int, weight: Interval, at_one: Interval, at_zero: Interval) -> Interval:
    """A convex combination lies between its ends."""
    return at_one.hull(at_zero)


def exponent(bits: int, a: Interval) -> Interval:
    """The even exponent grows with the value; that of 0 is 0."""
    least, greatest = (arithmetic.even_exponent(np.maximum(end, 1), bits) for end in (a.low, a.high))
    zero_possible = a.low == 0
    return Interval(
        np.where(zero_possible, np.minimum(least, 0), least),
        np.where(zero_possible, np.maximum(greatest, 0), greatest),
    )


def mantissa(bits: int, a: Interval) -> Interval:
    """A mantissa lies in [2**(bits-2), 2**bits); that of 0 is 0."""
    smallest = np.where(a.low == 0, 0, 1 << (bits - 2))
    return Interval(smallest, np.full_like(smallest, (1 << bits) - 1))

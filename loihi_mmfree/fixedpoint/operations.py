"""The table of operations: what an instruction of a neuron program can be, each in one entry.

Validation, interpreter, proof, builder, listing and documentation read nothing else. Who needs a rule of its own
for each operation (the kernels) keeps a table by the operation's name and asks it through :func:`rule_for`, which
names the operation that it lacks. docs/fixed-point.md shows the table as text.

A rule takes the instruction's immediate (0 if it has none), then what the first operand names if it names
something, then what the registers hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np

from loihi_mmfree.fixedpoint import arithmetic, intervals
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.intervals import Interval

MAX_REGISTER_BITS = 63
"""What the int64 specification can represent; a chip allows less (loihi2/hardware.py)."""
_FARTHEST = MAX_REGISTER_BITS - 1
_LARGEST = (1 << _FARTHEST) - 1

Rule = TypeVar("Rule")


class Named(Enum):
    """What the first operand of an instruction can name instead of a register."""

    INPUT = "input"
    STATE = "state"
    CONSTANT = "constant"
    TABLE = "table"
    OUTPUT = "output"


@dataclass(frozen=True)
class Operand:
    """A register that an operation reads.

    Parameters
    ----------
    name : str
        As the meaning calls it.
    demand : str
        What its values are held to, for whoever breaks it; empty if they may be anything.
    limits : str
        The least and the greatest value for which the operation means something, as text: "0 to 2^n" with the
        immediate n, or with the `entries` of the table.
    allowed : callable (immediate, entries of the table) -> (low, high), optional
        The same as numbers.
    """

    name: str
    demand: str = ""
    limits: str = ""
    allowed: Callable[[int, int], tuple[int, int]] | None = None


@dataclass(frozen=True)
class Result:
    """What an operation writes into its register.

    Parameters
    ----------
    value : callable (immediate, *int64 arrays) -> int64 array
        The meaning, over NumPy.
    interval : callable (immediate, *Intervals) -> Interval
        An interval that holds every value; a table is given as the array it is.
    width : callable (immediate, *bits of the registers) -> bits, optional
        Wide enough for operands within +-(2**(bits-1) - 1). None: whoever loads it has to say.
    intermediate : callable (immediate, *magnitudes) -> int, optional
        The largest magnitude under way, if it can exceed 63 bits where operands and result do not.
    repeated : callable (immediate, Interval) -> Interval, optional
        A tighter interval for one register given as every operand.
    clamps : bool
        Whether values that it changes are counted as saturations.
    rounded : callable (immediate, *int64 arrays) -> (int64 array, places), optional
        The exact number that is rounded, and how many of its places are cut off, where something is.
    """

    value: Callable[..., Integers]
    interval: Callable[..., Interval]
    width: Callable[..., int] | None = None
    intermediate: Callable[..., int] | None = None
    repeated: Callable[[int, Interval], Interval] | None = None
    clamps: bool = False
    rounded: Callable[..., tuple[Integers, Integers | int]] | None = None


@dataclass(frozen=True)
class Operation:
    """One entry of the table.

    Parameters
    ----------
    registers : tuple of Operand
        Those it reads, in order; they come behind the name, if there is one.
    meaning : str
        What it does, exactly: n is the immediate, other letters are the operands.
    result : Result, optional
        None for an effect, which writes no register: it gives a value to the state or output it names.
    named : Named, optional
        What its first operand names.
    immediate : (int, int), optional
        Least and greatest immediate. None: it takes none, which is written as 0.
    """

    registers: tuple[Operand, ...]
    meaning: str
    result: Result | None
    named: Named | None = None
    immediate: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if (
            (self.named in (Named.STATE, Named.OUTPUT))
            if self.result is None
            else (self.named is not Named.OUTPUT)
        ):
            return
        raise ValueError("an effect names a state or an output, and what has a result names no output")

    @property
    def operands(self) -> int:
        """How many there are, a name included."""
        return len(self.registers) + (self.named is not None)

    @property
    def reads_from_outside(self) -> bool:
        """Whether it loads what differs from time step to time step."""
        return self.result is not None and self.named in (Named.INPUT, Named.STATE)


def rule_for(rules: Mapping[str, Rule], operation: str, consumer: str) -> Rule:
    """Return a consumer's own rule for an operation.

    Raises
    ------
    NotImplementedError
        It has none: the operation is new, and the consumer has to learn it before it can be used there.
    """
    try:
        return rules[operation]
    except KeyError:
        raise NotImplementedError(f"{consumer} has no rule for the operation {operation!r}") from None


def _registers(*names: str) -> tuple[Operand, ...]:
    return tuple(Operand(name) for name in names)


def _load(named: Named, meaning: str) -> Operation:
    return Operation((), meaning, Result(lambda _, value: value, intervals.known), named)


def _wider(_: int, a: int, b: int) -> int:
    return max(a, b)


_A, _AB = _registers("a"), _registers("a", "b")
_SHIFT = (0, _FARTHEST)
_BITS = (2, _FARTHEST)
_POSITIVE = (
    Operand(
        "a", "only a non-negative value has an exponent and a mantissa", "0 to 2^62 - 1", lambda *_: (0, _LARGEST)
    ),
)

OPERATIONS: Mapping[str, Operation] = {
    "input": _load(Named.INPUT, "what arrives at the input in this time step, summed; 0 where nothing arrives"),
    "state": _load(
        Named.STATE,
        "the state as the last time step left it, 0 in the first; what this time step stores is not seen, "
        "wherever the store stands",
    ),
    "constant": _load(
        Named.CONSTANT, "the neuron's entry of the constant, or the one entry that all neurons share"
    ),
    "immediate": Operation(
        (),
        "n",
        Result(
            lambda n: np.array([n], dtype=np.int64),
            intervals.literal,
            width=lambda n: max(n.bit_length() + 1, 2),
        ),
        immediate=(-_LARGEST - 1, _LARGEST),
    ),
    "add": Operation(
        _AB,
        "a + b",
        Result(lambda _, a, b: np.add(a, b), intervals.total, width=lambda _, a, b: max(a, b) + 1),
    ),
    "sub": Operation(
        _AB,
        "a - b",
        Result(lambda _, a, b: np.subtract(a, b), intervals.difference, width=lambda _, a, b: max(a, b) + 1),
    ),
    "mul": Operation(
        _AB,
        "a * b, exact",
        Result(
            lambda _, a, b: np.multiply(a, b),
            intervals.product,
            width=lambda _, a, b: a + b - 1,
            intermediate=lambda _, a, b: a * b,
            repeated=intervals.square,
        ),
    ),
    "shift_left": Operation(
        _A,
        "a * 2^n",
        Result(
            lambda n, a: a << np.int64(n),
            intervals.shift_left,
            width=lambda n, a: a + n,
            intermediate=lambda n, a: a << n,
        ),
        immediate=_SHIFT,
    ),
    "shift_right": Operation(
        _A,
        "floor(a / 2^n + 1/2), a rounding shift: half is rounded up, also below zero; a itself for n = 0",
        Result(
            lambda n, a: arithmetic.rounding_shift(a, n),
            intervals.shift_right,
            width=lambda n, a: max(a - n + 1, 2),
            rounded=lambda n, a: (a, n),
        ),
        immediate=_SHIFT,
    ),
    "shift_right_by": Operation(
        (Operand("a"), Operand("d", "shift distance", "0 to 62", lambda *_: (0, _FARTHEST))),
        "floor(a / 2^d + 1/2), the rounding shift by a distance that each neuron has in a register",
        Result(
            lambda _, a, d: arithmetic.rounding_shift(a, d),
            intervals.shift_right_by,
            width=lambda _, a, d: a,
            rounded=lambda _, a, d: (a, d),
        ),
    ),
    "high_bits": Operation(
        _A,
        "floor(a / 2^n), an arithmetic shift that does not round",
        Result(lambda n, a: a >> np.int64(n), intervals.high_bits, width=lambda n, a: max(a - n, 2)),
        immediate=_SHIFT,
    ),
    "low_bits": Operation(
        _A,
        "a mod 2^n, from 0 to 2^n - 1 also below zero: a = high_bits * 2^n + low_bits",
        Result(lambda n, a: a & np.int64((1 << n) - 1), intervals.low_bits, width=lambda n, a: max(n + 1, 2)),
        immediate=_SHIFT,
    ),
    "absolute": Operation(
        _A, "a where a >= 0, else -a", Result(lambda _, a: np.abs(a), intervals.absolute, width=lambda _, a: a)
    ),
    "min": Operation(
        _AB, "the smaller of a and b", Result(lambda _, a, b: np.minimum(a, b), intervals.minimum, width=_wider)
    ),
    "max": Operation(
        _AB, "the larger of a and b", Result(lambda _, a, b: np.maximum(a, b), intervals.maximum, width=_wider)
    ),
    "saturate": Operation(
        _A,
        "a held between -(2^(n-1) - 1) and 2^(n-1) - 1; values that this changes are counted as saturations",
        Result(lambda n, a: arithmetic.saturate(a, n), intervals.saturate, width=lambda n, a: n, clamps=True),
        immediate=_BITS,
    ),
    "select": Operation(
        _registers("a", "b", "c"),
        "b where a >= 0, c where a < 0",
        Result(lambda _, a, b, c: np.where(a >= 0, b, c), intervals.select, width=lambda _, a, b, c: max(b, c)),
    ),
    "lerp": Operation(
        (
            Operand("w", "weight of a convex combination", "0 to 2^n", lambda n, _: (0, 1 << n)),
            *_AB,
        ),
        "floor((w * a + (2^n - w) * b) / 2^n + 1/2): a for w = 2^n, b for w = 0, never outside of a and b",
        Result(
            lambda n, w, a, b: arithmetic.lerp(w, a, b, n),
            intervals.lerp,
            width=lambda n, w, a, b: max(a, b),
            intermediate=lambda n, w, a, b: max(a, b) << n,
            rounded=lambda n, w, a, b: (w * a + ((1 << n) - w) * b, n),
        ),
        immediate=_SHIFT,
    ),
    "exponent": Operation(
        _POSITIVE,
        "the least even e, which may be negative, with a < 2^(n + e); 0 for a = 0",
        Result(lambda n, a: arithmetic.even_exponent(a, n), intervals.exponent, width=lambda n, a: 8),
        immediate=_BITS,
    ),
    "mantissa": Operation(
        _POSITIVE,
        "with the e of exponent: a * 2^-e for e <= 0, else min(floor(a / 2^e + 1/2), 2^n - 1); "
        "from 2^(n-2) to 2^n - 1, and 0 for a = 0",
        Result(
            lambda n, a: arithmetic.mantissa(a, n),
            intervals.mantissa,
            width=lambda n, a: n + 1,
            rounded=lambda n, a: (a, np.maximum(arithmetic.even_exponent(a, n), 0)),
        ),
        immediate=_BITS,
    ),
    "table": Operation(
        (Operand("i", "index into table", "0 to entries - 1", lambda _, entries: (0, entries - 1)),),
        "entry i of the table, counted from 0",
        Result(lambda _, table, i: table[i], intervals.entries),
        Named.TABLE,
    ),
    "store": Operation(
        _A,
        "a becomes the state for the next time step; in this one `state` gives the old value",
        None,
        Named.STATE,
    ),
    "send": Operation(_A, "a is sent as a graded spike; 0 is not sent, and arrives as 0", None, Named.OUTPUT),
}
"""Operation -> entry. The one place that every consumer looks into, when it needs it and not before."""

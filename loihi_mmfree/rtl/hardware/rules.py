"""How a lane computes each operation of the table of operations.

A lane has one datapath of five stages, and every operation is a way through it:

    r = round(((base << left) + x * y) / 2^right),    held to a ceiling where there is one

`base` is chosen or added in the first stage, the factors are multiplied in the second, and a rounding shift adds
the highest bit that it drops. A rule says what goes in. An operation without a rule is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Mux

Value = Any
"""An Amaranth expression."""


@dataclass(frozen=True)
class Operands:
    """What the first stage sees of an instruction, as Amaranth values.

    Parameters
    ----------
    a, b, c : signed
        The registers that it reads.
    loaded : signed
        What its address, or the scalar it names, holds.
    literal : signed
        The immediate.
    n : unsigned
        Its lowest six bits: a distance or a bit count.
    mask : unsigned
        2^n - 1.
    exponent : signed
        The even exponent of `a` for a mantissa of n bits.
    """

    a: Value
    b: Value
    c: Value
    loaded: Value
    literal: Value
    n: Value
    mask: Value
    exponent: Value


Given = Callable[[Operands], Value]


@dataclass(frozen=True)
class LaneRule:
    """What goes into the datapath for one operation; what is not said is 0.

    Parameters
    ----------
    base : callable, optional
    factors : callable, optional
        Returns both; the first one may be wider.
    left, right : callable, optional
        Distances.
    rounds : bool
        Whether the right shift rounds half up; otherwise it rounds down.
    ceiling : bool
        Whether the result is held to 2^n - 1.
    looks_up : bool
        Whether the result is an entry of the ROM, at `a` behind the immediate.
    effect : bool
        Whether `a` leaves the lane instead, and no register is written.
    """

    base: Given | None = None
    factors: Callable[[Operands], tuple[Value, Value]] | None = None
    left: Given | None = None
    right: Given | None = None
    rounds: bool = False
    ceiling: bool = False
    looks_up: bool = False
    effect: bool = False


def limit(s: Operands) -> Value:
    """2^(n-1) - 1, the largest value of n bits with sign."""
    return s.mask >> 1


def clamps(s: Operands) -> Value:
    """Whether a saturation to n bits changes `a`."""
    return (s.a > limit(s)) | (s.a < -limit(s))


def _saturated(s: Operands) -> Value:
    return Mux(s.a > limit(s), limit(s), Mux(s.a < -limit(s), -limit(s), s.a))


_LOAD = LaneRule(base=lambda s: s.loaded)

LANE_RULES: Mapping[str, LaneRule] = {
    "input": _LOAD,
    "state": _LOAD,
    "constant": _LOAD,
    "immediate": LaneRule(base=lambda s: s.literal),
    "add": LaneRule(base=lambda s: s.a + s.b),
    "sub": LaneRule(base=lambda s: s.a - s.b),
    "mul": LaneRule(factors=lambda s: (s.a, s.b)),
    "shift_left": LaneRule(base=lambda s: s.a, left=lambda s: s.n),
    "shift_right": LaneRule(base=lambda s: s.a, right=lambda s: s.n, rounds=True),
    "shift_right_by": LaneRule(base=lambda s: s.a, right=lambda s: s.b, rounds=True),
    "high_bits": LaneRule(base=lambda s: s.a, right=lambda s: s.n),
    "low_bits": LaneRule(base=lambda s: s.a & s.mask),
    "absolute": LaneRule(base=lambda s: Mux(s.a < 0, -s.a, s.a)),
    "min": LaneRule(base=lambda s: Mux(s.a < s.b, s.a, s.b)),
    "max": LaneRule(base=lambda s: Mux(s.a < s.b, s.b, s.a)),
    "saturate": LaneRule(base=_saturated),
    "select": LaneRule(base=lambda s: Mux(s.a < 0, s.c, s.b)),
    # w a + (2^n - w) b = (b << n) + (a - b) w, with the operands w, a and b.
    "lerp": LaneRule(
        base=lambda s: s.c,
        left=lambda s: s.n,
        factors=lambda s: (s.b - s.c, s.a),
        right=lambda s: s.n,
        rounds=True,
    ),
    "exponent": LaneRule(base=lambda s: s.exponent),
    "mantissa": LaneRule(
        base=lambda s: s.a,
        left=lambda s: Mux(s.exponent < 0, -s.exponent, 0),
        right=lambda s: Mux(s.exponent < 0, 0, s.exponent),
        rounds=True,
        ceiling=True,
    ),
    "table": LaneRule(looks_up=True),
    "store": LaneRule(effect=True),
    "send": LaneRule(effect=True),
}
"""Operation -> rule; tests hold its keys against the table of operations."""

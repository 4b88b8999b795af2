"""QFormat: what an integer on an edge of the graph means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SIXTEENTHS = 16
"""Of a power of two, in one."""


@dataclass(frozen=True)
class QFormat:
    """A signed fixed-point format: value = n * sixteenths / 16 * 2**-frac, with |n| <= 2**(bits - 1) - 1.

    The unit is a power of two, or at the input of a projection any sixteenth of one: there it is part of the gain
    in front and of the multiplier behind, and costs nothing. The range is symmetric, so that negation never
    overflows and the bound of a ternary dot product is the same for both signs.

    Parameters
    ----------
    bits : int
        Width in bits including the sign, 2 to 32 (what an int32 tensor holds; rules R1 and R3 allow less).
    frac : int
        Number of fractional bits; may be negative or larger than `bits`.
    sixteenths : int
        Sixteenths of 2**-frac in a unit, 16 to 31.
    """

    bits: int
    frac: int
    sixteenths: int = SIXTEENTHS

    def __post_init__(self) -> None:
        if not SIXTEENTHS <= self.sixteenths < 2 * SIXTEENTHS:
            raise ValueError(f"a unit has 16 to 31 sixteenths, found {self.sixteenths}")
        if not 2 <= self.bits <= 32:
            raise ValueError(f"a format has 2 to 32 bits, found {self.bits}")

    @property
    def max_int(self) -> int:
        """Largest magnitude of the integer."""
        return (1 << (self.bits - 1)) - 1

    @property
    def scale(self) -> float:
        """Value of one unit (exact)."""
        return self.ratio * 2.0**-self.frac

    @property
    def ratio(self) -> float:
        """Value of one unit over the power of two below it (exact)."""
        return self.sixteenths / SIXTEENTHS

    def to_list(self) -> list[int]:
        """Return the fields as files hold them, without the sixteenths where they make a power of two."""
        return [self.bits, self.frac, *([] if self.sixteenths == SIXTEENTHS else [self.sixteenths])]

    @classmethod
    def from_list(cls, numbers: Sequence[Any]) -> QFormat:
        """Return what `to_list` gave; raise ValueError for anything else."""
        if len(numbers) not in (2, 3):
            raise ValueError(f"a format has 2 or 3 numbers, found {len(numbers)}")
        return cls(*map(int, numbers))

    def __str__(self) -> str:
        return f"Q{self.bits}.{self.frac}" + (f"*{self.sixteenths}/16" if self.sixteenths != SIXTEENTHS else "")

    @property
    def max_value(self) -> float:
        """Largest representable magnitude."""
        return self.max_int * self.scale

    @classmethod
    def covering(cls, bits: int, maximum: float) -> QFormat:
        """Return the finest format of `bits` bits that still represents `maximum`.

        Parameters
        ----------
        bits : int
            Width in bits including the sign.
        maximum : float
            Positive magnitude which must not saturate.
        """
        if not 0 < maximum < float("inf"):
            raise ValueError(f"a format covers a positive finite magnitude, found {maximum}")
        frac = bits - 1 - math.floor(math.log2(maximum))
        while cls(bits, frac).max_value < maximum:
            frac -= 1
        return cls(bits, frac)

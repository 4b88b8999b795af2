"""QFormat: what an integer on an edge of the graph means."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class QFormat:
    """A signed fixed-point format: value = n * 2**-frac, with |n| <= 2**(bits - 1) - 1.

    The range is symmetric, so that negation never overflows and the bound of a ternary dot product
    is the same for both signs.

    Parameters
    ----------
    bits : int
        Width in bits including the sign, 2 to 32 (what an int32 tensor holds; rules R1 and R3 allow less).
    frac : int
        Number of fractional bits; may be negative or larger than `bits`.
    """

    bits: int
    frac: int

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 32:
            raise ValueError(f"a format has 2 to 32 bits, found {self.bits}")

    @property
    def max_int(self) -> int:
        """Largest magnitude of the integer."""
        return (1 << (self.bits - 1)) - 1

    @property
    def scale(self) -> float:
        """Value of one unit, 2**-frac (exact)."""
        return 2.0**-self.frac

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

"""Requantizers: a real scale as M * 2**-k with a 15-bit multiplier (rule R6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.arithmetic import Integers, rounding_shift

MULTIPLIER_BITS = 15
MAX_SHIFT = 62


@dataclass(frozen=True)
class Requantizer:
    """Multiplication by multiplier * 2**-shift, rounded half up once."""

    multiplier: int
    shift: int

    def __call__(self, value: Integers) -> Integers:
        """Apply to int64 values."""
        return rounding_shift(value * np.int64(self.multiplier), self.shift)

    @property
    def scale(self) -> float:
        """The real factor this requantizer applies (exact)."""
        return math.ldexp(self.multiplier, -self.shift)

    @classmethod
    def from_scale(cls, scale: float, bits: int = MULTIPLIER_BITS) -> Requantizer:
        """Return the requantizer nearest to a positive `scale`, with 2**(bits - 1) <= M < 2**bits.

        Parameters
        ----------
        scale : float
            Positive, below 2**bits; the relative error of the result is at most 2**-bits.
        bits : int
            Of the multiplier; fewer than `MULTIPLIER_BITS` where a product would not fit a register.
        """
        multipliers, shift = fit_multipliers(np.array([scale]), bits)
        return cls(int(multipliers[0]), shift)


def fit_multipliers(scales: NDArray[np.float64], bits: int = MULTIPLIER_BITS) -> tuple[NDArray[np.int32], int]:
    """Write real factors, one a neuron, as M_n * 2**-k with one shared shift k.

    Parameters
    ----------
    scales : float64 array [n]
        Finite; the largest magnitude is positive and below 2**bits.
    bits : int
        As for `Requantizer.from_scale`.

    Returns
    -------
    multipliers : int32 array [n]
        Signed, |M_n| < 2**bits, the largest at least 2**(bits - 1) (unless k had to stop at 0).
    shift : int
        Non-negative.
    """
    largest = float(np.max(np.abs(scales)))
    if not 0 < largest < 2**bits:
        raise ValueError(f"a requantizer needs a scale between 0 and 2**{bits}, found {largest}")
    # Beyond 62 the rounding constant leaves int64; a scale so small makes zeros of all 24-bit values anyway.
    shift = min(max(0, bits - math.frexp(largest)[1]), MAX_SHIFT)
    if math.floor(math.ldexp(largest, shift) + 0.5) >= 1 << bits:
        shift = max(0, shift - 1)
    multipliers = np.floor(np.ldexp(scales.astype(np.float64), shift) + 0.5)
    limit = (1 << bits) - 1
    return np.clip(multipliers, -limit, limit).astype(np.int32), shift

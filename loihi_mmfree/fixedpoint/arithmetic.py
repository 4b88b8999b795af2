"""Integer primitives, each once. NumPy int64 is the specification that every other path is held against.

All functions are elementwise on signed integers held in int64. They assume, and the interval proof of
:mod:`loihi_mmfree.fixedpoint.proof` guarantees, that no intermediate exceeds 63 bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def rounding_shift(value: Integers, shift: int | Integers) -> Integers:
    """Return floor(value / 2**shift + 1/2): the one rounding of the whole package (rule R4).

    Parameters
    ----------
    value : int64 array
    shift : int or int64 array
        Non-negative. Zero returns the value unchanged.
    """
    if np.min(shift) < 0:
        raise ValueError("a rounding shift moves to the right: the shift is non-negative")
    distance = np.asarray(shift, dtype=np.int64)
    half: Integers = np.left_shift(np.int64(1), distance) >> np.int64(1)
    return (value + half) >> distance


def saturate(value: Integers, bits: int) -> Integers:
    """Clamp to the symmetric range of a signed integer of `bits` bits, +-(2**(bits-1) - 1)."""
    limit = (1 << (bits - 1)) - 1
    return np.clip(value, -limit, limit)


def lerp(weight: Integers, at_one: Integers, at_zero: Integers, bits: int) -> Integers:
    """Return (w a + (2**bits - w) b + 2**(bits-1)) >> bits, a convex combination with one rounding.

    For 0 <= w <= 2**bits the result lies between a and b: the rounding is half up of a value which is
    between two integers. This is what bounds the MLGRU state for ever.

    Parameters
    ----------
    weight : int64 array
        Fraction of `at_one` in units of 2**-bits, 0 to 2**bits inclusive.
    at_one, at_zero : int64 array
        The two ends.
    bits : int
        Number of fractional bits of `weight`.
    """
    one = np.int64(1) << np.int64(bits)
    return rounding_shift(weight * at_one + (one - weight) * at_zero, bits)


def bit_length(value: Integers) -> Integers:
    """Number of bits of a non-negative integer; 0 for 0."""
    # The bit below the highest is cleared, so that rounding to float64 cannot reach the next power of two;
    # frexp then finds the highest: value = m * 2**e with 0.5 <= m < 1.
    integers = np.asarray(value, dtype=np.int64)
    return np.frexp((integers & ~(integers >> 1)).astype(np.float64))[1].astype(np.int64)


def even_exponent(value: Integers, bits: int) -> Integers:
    """Smallest even e (possibly negative) such that value < 2**(bits + e); 0 for value 0.

    Together with :func:`mantissa` it writes a positive integer as m * 2**e with
    2**(bits-2) <= m <= 2**bits, which is what an inverse square root wants.
    """
    excess = bit_length(value) - bits
    even = excess + (excess & 1)
    return np.where(value > 0, even, 0)


def mantissa(value: Integers, bits: int) -> Integers:
    """Value shifted by its even exponent, rounded half up and held to 2**bits - 1; 0 for value 0."""
    exponent = even_exponent(value, bits)
    left = np.maximum(-exponent, 0)
    right = np.maximum(exponent, 0)
    return np.minimum(rounding_shift(value << left, right), (1 << bits) - 1)

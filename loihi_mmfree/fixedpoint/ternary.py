"""Ternary weights: four to a byte in the artifact, and their exact dot product."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.arithmetic import Integers

FLOAT32_EXACT_LIMIT = 1 << 24
"""Below this magnitude every integer, and so every partial sum, is exact in float32."""

CODES_PER_BYTE = 4

_BOUND_ROWS = 1024
"""Rows whose bounds are computed at once; keeps the memory of a large projection small."""


def pack_ternary(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack codes -1, 0, 1 as two bits each (code + 1), four to a byte, low bits first.

    Parameters
    ----------
    codes : int8 array [rows, columns]

    Returns
    -------
    uint8 array [rows, ceil(columns / 4)]
        A row starts on a byte; the padding is code 0 (stored as 1).
    """
    if codes.size and (codes.min() < -1 or codes.max() > 1):
        raise ValueError("ternary codes are -1, 0 and 1")
    rows, columns = codes.shape
    padded = np.ones((rows, -(-columns // CODES_PER_BYTE) * CODES_PER_BYTE), dtype=np.uint8)
    np.add(codes, 1, out=padded[:, :columns], casting="unsafe")
    packed = padded[:, ::CODES_PER_BYTE].copy()
    for place in range(1, CODES_PER_BYTE):
        packed |= padded[:, place::CODES_PER_BYTE] << np.uint8(2 * place)
    return packed


def unpack_ternary(packed: NDArray[np.uint8], columns: int) -> NDArray[np.int8]:
    """Invert :func:`pack_ternary`.

    Parameters
    ----------
    packed : uint8 array [rows, ceil(columns / 4)]
    columns : int
        Number of codes in a row.

    Raises
    ------
    ValueError
        A two-bit field holds 3, which is no code, or the width does not belong to `columns`.
    """
    check_packed(packed, columns)
    fields = np.stack([(packed >> shift) & 3 for shift in (0, 2, 4, 6)], axis=-1)
    return (fields.reshape(packed.shape[0], -1)[:, :columns].astype(np.int8)) - np.int8(1)


def check_packed(packed: NDArray[np.uint8], columns: int) -> None:
    """Raise ValueError unless `packed` holds rows of `columns` codes and no field that is no code."""
    if packed.ndim != 2 or packed.shape[1] != -(-columns // CODES_PER_BYTE):
        raise ValueError(
            f"{columns} codes a row take {-(-columns // CODES_PER_BYTE)} bytes, found shape {packed.shape}"
        )
    # A field is 3 where both of its bits are set.
    if np.any(packed & (packed >> 1) & 0b01010101):
        raise ValueError("a two-bit field holds 3, which is no ternary code")


def nonzero_counts(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return how many of the codes in each byte are not zero, uint8 of the same shape."""
    fields = np.stack([(np.arange(256) >> shift) & 3 for shift in (0, 2, 4, 6)])
    counts = (fields != 1).sum(axis=0).astype(np.uint8)
    return counts[packed]


def ternary_dot(activations: Integers, codes: NDArray[np.int8]) -> Integers:
    """Return activations @ codes.T exactly.

    Parameters
    ----------
    activations : int64 array [..., columns]
    codes : int8 array [rows, columns]

    Returns
    -------
    int64 array [..., rows]
    """
    bound = int(np.max(np.abs(activations), initial=0)) * codes.shape[1]
    exact_type = np.float32 if bound < FLOAT32_EXACT_LIMIT else np.float64
    product = activations.astype(exact_type) @ codes.T.astype(exact_type)
    return product.astype(np.int64)


def dot_bounds(codes: NDArray[np.int8], low: Integers, high: Integers) -> tuple[Integers, Integers]:
    """Return the exact range of every row's dot product for inputs between `low` and `high`.

    Parameters
    ----------
    codes : int8 array [rows, columns]
    low, high : int64 array [columns] or [1]

    Returns
    -------
    (low, high) : int64 arrays [rows]
    """
    columns = codes.shape[1]
    # With w+ = (|w| + w) / 2 and w- = (|w| - w) / 2, the range of a row is w (h + l) / 2 -+ |w| (h - l) / 2.
    total = np.broadcast_to(high + low, columns).astype(np.float64)
    width = np.broadcast_to(high - low, columns).astype(np.float64)
    lowest, highest = (np.empty(len(codes), dtype=np.int64) for _ in range(2))
    for first in range(0, len(codes), _BOUND_ROWS):
        rows = slice(first, first + _BOUND_ROWS)
        block = codes[rows].astype(np.float64)
        middle, reach = block @ total, np.abs(block) @ width
        lowest[rows], highest[rows] = (middle - reach) / 2, (middle + reach) / 2
    return lowest, highest

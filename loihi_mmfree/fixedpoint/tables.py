"""The two lookup tables of a neurocore: sigmoid and inverse square root, both read with linear interpolation.

They are small on purpose (257 and 97 entries of at most 17 bits): what a neuron program may hold on the
chip is not public, and public fixed-point models of the family use tables of this kind.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIGMOID_FRACTION_BITS = 15
"""A table value of 2**15 is 1.0."""
SIGMOID_SEGMENT_BITS = 4
"""A segment of the sigmoid table is 2**-4 wide."""
SIGMOID_DOMAIN_BITS = 4
"""The table covers 0 <= x <= 2**4; beyond it the sigmoid is taken as at the end."""

RSQRT_MANTISSA_BITS = 16
"""The inverse square root is taken of a mantissa in [2**14, 2**16)."""
RSQRT_SEGMENT_BITS = 9
"""A segment of the inverse square root table is 2**9 mantissa units wide."""
RSQRT_FRACTION_BITS = 14
"""A table value of 2**14 is 1.0: the table holds 2**14 / sqrt(m / 2**16), between 2**14 and 2**15."""


def _round_half_up(values: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.floor(values + 0.5).astype(np.int32)


def sigmoid_table() -> NDArray[np.int32]:
    """Return 257 values of sigmoid(j / 16), j = 0..256, in units of 2**-15."""
    grid = np.arange((1 << (SIGMOID_DOMAIN_BITS + SIGMOID_SEGMENT_BITS)) + 1) / (1 << SIGMOID_SEGMENT_BITS)
    return _round_half_up((1 << SIGMOID_FRACTION_BITS) / (1.0 + np.exp(-grid)))


def rsqrt_first_segment() -> int:
    """Number of the segment that the smallest mantissa, 2**14, falls into."""
    return 1 << (RSQRT_MANTISSA_BITS - 2 - RSQRT_SEGMENT_BITS)


def rsqrt_table() -> NDArray[np.int32]:
    """Return 97 values of 2**14 / sqrt(m / 2**16) at m = 2**14, 2**14 + 2**9, ..., 2**16."""
    last = 1 << (RSQRT_MANTISSA_BITS - RSQRT_SEGMENT_BITS)
    grid = np.arange(rsqrt_first_segment(), last + 1) / last
    return _round_half_up((1 << RSQRT_FRACTION_BITS) / np.sqrt(grid))

"""Sizes and shares that planners and kernels agree on. Imports no numba."""

from __future__ import annotations

from enum import IntEnum

BLOCK_COLUMNS = 256
"""Columns in 64 packed bytes."""
SHARE = 64
"""Threads share vectors in units of this many elements, whole cache lines of every type."""
TILE_ROWS = 6
"""Rows that are unpacked and multiplied together when many vectors are."""
SCRATCH = TILE_ROWS * 64
"""int32 values a thread needs beside its tile."""


class Step(IntEnum):
    """What a row of a network's plan does; the columns after the first are listed in `kernels.network`."""

    BARRIER = 0
    SUM = 1
    SPLIT = 2
    TERNARY = 3
    GROUP = 4


STEP_WIDTH = 12
"""Columns of a plan."""


class Link(IntEnum):
    """What a program is given the address of; `place` counts elements."""

    VALUES = 0
    SHARED_VALUE = 1
    STATE = 2
    CONSTANTS = 3
    SHARED_CONSTANT = 4
    TABLE = 5
    TABLE_LENGTH = 6


TABLE_FAULT, SHIFT_FAULT, MESSAGE_FAULT, ACTIVATION_FAULT = 1, 2, 4, 8
"""Bits of what the proof of bounds excludes: a table read outside its entries, an impossible shift distance,
a message wider than 32 bits, an activation wider than declared."""
LINKS = 120
"""Most addresses that a program is given."""


def digits_for(bits: int) -> int:
    """Return how many digits (1, 2 or 4) hold a signed integer of `bits` bits; 0 if it has more than 28."""
    return next((digits for digits, most in ((1, 8), (2, 14), (4, 28)) if bits <= most), 0)


def vector_planes_bytes(columns: int, digits: int) -> int:
    """Return the size of what `ternary.split_vector` writes."""
    return -(-columns // BLOCK_COLUMNS) * BLOCK_COLUMNS * digits


def matrix_planes_words(columns: int, digits: int, tokens: int) -> int:
    """Return the size, in int32, of what `ternary.split_matrix` writes."""
    return -(-columns // 4) * 64 * -(-tokens // (64 // digits))

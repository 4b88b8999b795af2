"""Sizes and shares that planners and kernels agree on. Imports no numba."""

from __future__ import annotations

from enum import IntEnum

BLOCK_COLUMNS = 256
"""Columns in 64 packed bytes."""
SHARE = 64
"""Threads share vectors in units of this many elements, whole cache lines of every type."""
TILE_ROWS = 6
"""Rows that are unpacked and multiplied together when many vectors are."""
UNIT_COLUMNS, UNIT_BYTES, LOOKUPS = 12, 3, 4
"""Columns whose sums are looked up before they are widened, their packed bytes, and look-ups of three columns."""
UNITS_TOGETHER = 16
"""Units that a pass goes through: as many tables as half the nearest cache holds."""
SUM_TOKENS = 4
"""Vectors whose sums are looked up together."""
SUM_ROWS, SUM_CODES = 512, 2**17
"""Most rows whose indices are made at a time, and int32 values these take: half of a processor's own cache."""
ROW_PAIR = 64
"""Rows that are looked up together."""
SUM_BITS = 12
"""Widest activations whose sums are looked up."""
SCRATCH = SUM_TOKENS * SUM_ROWS
"""int32 values a thread needs beside its tile."""


MESSAGE_BITS = 32
"""What a value between two nodes is held in; a chip's own limit is proved beforehand."""


class Step(IntEnum):
    """What a row of a network's plan does; the columns after the first are listed in `kernels.runtime.network`."""

    BARRIER = 0
    SUM = 1
    SPLIT = 2
    TERNARY = 3
    GROUP = 4
    COUNT = 5


STEP_WIDTH = 12
"""Columns of a plan."""
NODE = 11
"""Column of a step that counts saturations or overflows: the number of its node among those that do."""
COUNTERS = 8
"""Counters of a thread: saturations, overflows, the first fault and its step; the rest fills a cache line."""


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

ASLEEP, READY, CLAIMED, AT_WORK = range(4)
"""What a thread that helps is doing. It falls asleep only out of READY, so whoever claims it can count on it."""
ARRIVALS, JOB, MEMBERS, CLOSING, STATES = 0, 8, 16, 24, 32
"""Places in the int64 array by which a team agrees, a cache line apart; helper n is at STATES + 8 * n."""


def has_word_permutation(features: str) -> bool:
    """Return whether a processor of these features, as LLVM writes them, looks up words in a vector register."""
    return "+avx512bw" in features.split(",")


def looks_up_sums(name: str, features: str) -> bool:
    """Return whether a processor looks up sums faster than it multiplies.

    AMD's (Zen 4 and later) permute the words of a vector in one cycle; Intel's take two instructions' worth.
    """
    return name.startswith("znver") and has_word_permutation(features)


def digits_for(bits: int) -> int:
    """Return how many digits (1, 2 or 4) hold a signed integer of `bits` bits; 0 if it has more than 28."""
    return next((digits for digits, most in ((1, 8), (2, 14), (4, 28)) if bits <= most), 0)


def vector_planes_bytes(columns: int, digits: int) -> int:
    """Return the size of what `ternary.split_vector` writes."""
    return -(-columns // BLOCK_COLUMNS) * BLOCK_COLUMNS * digits


def matrix_planes_words(columns: int, digits: int, tokens: int) -> int:
    """Return the size, in int32, of what `ternary.split_matrix` writes."""
    return -(-columns // 4) * 64 * -(-tokens // (64 // digits))


def sum_tables_words(columns: int, tokens: int) -> int:
    """Return the size, in int32, of what `sums.tabulate_sums` writes."""
    return -(-columns // UNIT_COLUMNS) * -(-tokens // SUM_TOKENS) * SUM_TOKENS * LOOKUPS * 16


def padded_units(stride: int) -> int:
    """Return how many units there is room for in the indices of a packed row of `stride` bytes."""
    return -(-stride // (UNIT_BYTES * UNITS_TOGETHER)) * UNITS_TOGETHER


def sum_rows(units: int) -> int:
    """Return how many rows of so many padded units get their indices at a time."""
    most = SUM_CODES // units // ROW_PAIR * ROW_PAIR
    return max(ROW_PAIR, min(SUM_ROWS, most))


def sum_codes_words(stride: int) -> int:
    """Return the size, in int32, of the indices of rows of `stride` packed bytes."""
    units = padded_units(stride)
    return sum_rows(units) * units

"""Products with ternary weights as sums that are looked up, for many vectors of at most 12 bits.

Everything is exact.
"""

from __future__ import annotations

from numba import carray, njit

from loihi_mmfree.sim.engine.kernels.conventions import (
    ROW_PAIR,
    SUM_TOKENS,
    UNIT_BYTES,
    UNIT_COLUMNS,
    UNITS_TOGETHER,
    padded_units,
    sum_rows,
)
from loihi_mmfree.sim.engine.kernels.memory import byte_pointer
from loihi_mmfree.sim.engine.kernels.products.sum_vectors import add_sums, spread_codes, write_sums

_TABLES_BYTES = 4 * SUM_TOKENS * 64
"""Tables of a unit, of the vectors done together."""
_CODES_BYTES = 4 * 64
"""Indices of a unit, of the rows looked up together."""
_padded_units, _sum_rows = njit(nogil=True)(padded_units), njit(nogil=True)(sum_rows)
_BYTES_TOGETHER = UNITS_TOGETHER * UNIT_BYTES


@njit(nogil=True)
def tabulate_sums(values, tokens, columns, stride, low, high, tables, scratch):  # type: ignore[no-untyped-def]
    """Write units low..high of many activation vectors as `multiply_sums` wants them.

    Parameters
    ----------
    values : int32 array, at least [(tokens - 1) * stride + columns]
        Of at most 12 bits.
    tokens, columns : int64
    stride : int64
        Elements from one vector to the next, of which `columns` are taken.
    low, high : int64
        Units of twelve columns.
    tables : int32 array
        [tokens / 4, units, look-ups, 4 tokens, 16], two entries to an element; tokens behind the last are left
        as they are, their sums are never read.
    scratch : int32 array [12]
    """
    units = (columns + UNIT_COLUMNS - 1) // UNIT_COLUMNS
    source, target = values.ctypes.data, tables.ctypes.data
    for token in range(tokens):
        first = target + (token // SUM_TOKENS) * units * _TABLES_BYTES + token % SUM_TOKENS * 64
        for unit in range(low, min(high, columns // UNIT_COLUMNS)):
            write_sums(source + 4 * (token * stride + unit * UNIT_COLUMNS), first + unit * _TABLES_BYTES)
        if high * UNIT_COLUMNS > columns and high > low:
            begin = (units - 1) * UNIT_COLUMNS
            scratch[:UNIT_COLUMNS] = 0
            for at in range(begin, columns):
                scratch[at - begin] = values[token * stride + at]
            write_sums(scratch.ctypes.data, first + (units - 1) * _TABLES_BYTES)


@njit(nogil=True)
def _spread_rows(packed, stride, count, codes, scratch):  # type: ignore[no-untyped-def]
    """Indices of all units of up to 32 rows."""
    source = carray(byte_pointer(packed), (count, stride))
    ends = carray(byte_pointer(scratch.ctypes.data), (32, 64))
    for begin in range(0, stride, _BYTES_TOGETHER):
        if begin + 64 <= stride:
            spread_codes(packed + begin, stride, count, codes)
        else:
            # Nothing is read behind the end of the weights; what fills up the last unit has to be zero.
            size = min(_BYTES_TOGETHER, stride - begin)
            for row in range(count):
                for at in range(size):
                    ends[row, at] = source[row, begin + at]
                for at in range(size, size + UNIT_BYTES - 1):
                    ends[row, at] = 0
            spread_codes(scratch.ctypes.data, 64, count, codes)
        codes += UNITS_TOGETHER * _CODES_BYTES


@njit(nogil=True)
def _copy(source, target):  # type: ignore[no-untyped-def]
    for at in range(source.size):
        target[at] = source[at]


@njit(nogil=True)
def multiply_sums(packed, stride, rows, low, high, tokens, tables, out, codes, scratch):  # type: ignore[no-untyped-def]
    """Exact products of packed rows low..high with many activation vectors.

    Parameters
    ----------
    packed : int64
        Address of uint8 [rows, stride].
    stride, rows : int64
        Packed bytes in a row, and rows of the whole matrix.
    low, high : int64
        Rows to compute.
    tokens : int64
        Number of activation vectors.
    tables : int32 array
        From `tabulate_sums`.
    out : int32 array, at least [tokens * rows]
    codes : int32 array [layout.sum_codes_words(stride)]
    scratch : int32 array [layout.SCRATCH]
    """
    units = (stride + UNIT_BYTES - 1) // UNIT_BYTES
    room = _padded_units(stride)
    pitch, together = room * _CODES_BYTES, _sum_rows(room)
    code_place, table_place, sums = codes.ctypes.data, tables.ctypes.data, scratch.ctypes.data
    row = low
    while row < high:
        count = min(together, high - row)
        pairs = (count + ROW_PAIR - 1) // ROW_PAIR
        for half in range((count + 31) // 32):
            target = code_place + half // 2 * pitch + half % 2 * 128
            _spread_rows(packed + (row + 32 * half) * stride, stride, min(32, count - 32 * half), target, scratch)
        for block in range((tokens + SUM_TOKENS - 1) // SUM_TOKENS):
            scratch[: pairs * ROW_PAIR * SUM_TOKENS] = 0
            for first in range(0, units, UNITS_TOGETHER):
                some = min(UNITS_TOGETHER, units - first)
                table = table_place + (block * units + first) * _TABLES_BYTES
                for pair in range(pairs):
                    code = code_place + pair * pitch + first * _CODES_BYTES
                    add_sums(some, code, table, sums + pair * ROW_PAIR * SUM_TOKENS * 4)
            for token in range(min(SUM_TOKENS, tokens - block * SUM_TOKENS)):
                for pair in range(pairs):
                    begin = (pair * SUM_TOKENS + token) * ROW_PAIR
                    at = (block * SUM_TOKENS + token) * rows + row + pair * ROW_PAIR
                    size = min(ROW_PAIR, count - pair * ROW_PAIR)
                    _copy(scratch[begin : begin + size], out[at : at + size])
        row += count

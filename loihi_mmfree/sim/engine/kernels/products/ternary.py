"""Products with ternary weights that stay packed, four codes to a byte (`fixedpoint.ternary.pack_ternary`).

A stored field is code + 1, so a dot product is the sum of field * activation less the sum of the activations.
An activation is written as one, two or four balanced digits of seven bits; a digit fits the signed byte of a
four-way dot product, and the digits' sums are put together at the end. Everything is exact.
"""

from __future__ import annotations

from numba import carray, njit

from loihi_mmfree.sim.engine.kernels.conventions import BLOCK_COLUMNS, TILE_ROWS
from loihi_mmfree.sim.engine.kernels.memory import byte_pointer
from loihi_mmfree.sim.engine.kernels.products.split import split_columns, split_tile
from loihi_mmfree.sim.engine.kernels.products.vectors import dot_rows, dot_tile

ROWS = 4
"""Rows that share the loads of the activations when one vector is multiplied."""
_FIRST_BITS = 0x03030303


@njit(nogil=True)
def _digit(value, digit, digits):  # type: ignore[no-untyped-def]
    """Balanced digit -64..63 of a value; the last one takes all that is left."""
    for _ in range(digit):
        value = (value + 64) >> 7
    return value if digit == digits - 1 else ((value + 64) & 127) - 64


@njit(nogil=True)
def _split_lanes(values, start, count, last, place, digit, digits, plane):  # type: ignore[no-untyped-def]
    if digits == 1:
        for lane in range(count):
            plane[lane] = values[start + 4 * lane + place]
    elif digits == 2 and digit == 0:
        for lane in range(count):
            plane[lane] = ((values[start + 4 * lane + place] + 64) & 127) - 64
    elif digits == 2:
        for lane in range(count):
            plane[lane] = (values[start + 4 * lane + place] + 64) >> 7
    else:
        for lane in range(count):
            plane[lane] = _digit(values[start + 4 * lane + place], digit, digits)
    if start + 4 * (count - 1) + place >= last:
        plane[count - 1] = 0


@njit(nogil=True)
def split_vector(values, low, high, digits, planes):  # type: ignore[no-untyped-def]
    """Write columns low..high of an activation vector as planes for `multiply_vector`.

    Parameters
    ----------
    values : int32 array [columns], readable up to the next multiple of four
    low, high : int64
        `low` is a multiple of four, and `high` one or the number of columns.
    digits : int64
    planes : int8 array
        [blocks, digits, 4, 64]; what lies behind the last column has to be zero.

    Returns
    -------
    int64
        Sum of the columns.
    """
    at = low // 4
    end = (high + 3) // 4
    # Sixteen bytes of a plane at a time, as long as they lie in one block.
    while 4 * at + 64 <= high and at % 16 == 0:
        source = values[4 * at :].ctypes.data
        plane = planes[(at // 64) * digits * 256 + at % 64 :].ctypes.data
        if digits == 1:
            split_columns(1, source, plane)
        elif digits == 2:
            split_columns(2, source, plane)
        else:
            split_columns(4, source, plane)
        at += 16
    while at < end:
        block, lane = at // 64, at % 64
        count = min(end - at, 64 - lane)
        for digit in range(digits):
            for place in range(4):
                first = ((block * digits + digit) * 4 + place) * 64 + lane
                plane = planes[first : first + count]
                _split_lanes(values, 4 * at, count, high, place, digit, digits, plane)
        at += count
    return _total(values[low:high])


@njit(nogil=True)
def _total(values):  # type: ignore[no-untyped-def]
    total = 0
    for at in range(values.size):
        total += values[at]
    return total


@njit(nogil=True)
def _multiply_rows(packed, stride, blocks, planes, digits, count, scratch):  # type: ignore[no-untyped-def]
    """Products of `count` rows (4 or 1) into scratch[:count]."""
    out = scratch.ctypes.data
    if count == ROWS:
        if digits == 1:
            dot_rows(4, 1, packed, stride, planes, blocks, out)
        elif digits == 2:
            dot_rows(4, 2, packed, stride, planes, blocks, out)
        else:
            dot_rows(4, 4, packed, stride, planes, blocks, out)
    elif digits == 1:
        dot_rows(1, 1, packed, stride, planes, blocks, out)
    elif digits == 2:
        dot_rows(1, 2, packed, stride, planes, blocks, out)
    else:
        dot_rows(1, 4, packed, stride, planes, blocks, out)


@njit(nogil=True)
def multiply_vector(  # type: ignore[no-untyped-def]
    packed, stride, rows, low, high, planes, digits, total, out, scratch
):
    """Exact products of packed rows low..high with one activation vector.

    Parameters
    ----------
    packed : int64
        Address of uint8 [rows, stride].
    stride, rows : int64
        Packed bytes in a row, and rows of the whole matrix.
    low, high : int64
        Rows to compute.
    planes : int8 array
        From `split_vector`.
    digits : int64
    total : int64
        Sum of the activations.
    out : int32 array
        Receives rows low..high at out[low:high].
    scratch : int32 array [96]
        Room for results and for the ends of rows.
    """
    blocks = (stride + 63) // 64
    # A row's last block may hold bytes of the next row, which meet zeros; behind the matrix nothing may be read.
    last = packed + rows * stride - 64 * blocks
    results = scratch[:16]
    row = low
    while row < high:
        count = ROWS if high - row >= ROWS else 1
        start = packed + row * stride
        if start + (count - 1) * stride <= last:
            _multiply_rows(start, stride, blocks, planes.ctypes.data, digits, count, results)
        else:
            _multiply_last_rows(start, stride, planes.ctypes.data, digits, count, results, scratch[16:80])
        for each in range(count):
            out[row + each] = results[each] - total
        row += count


@njit(nogil=True)
def _multiply_last_rows(packed, stride, planes, digits, count, results, ends):  # type: ignore[no-untyped-def]
    """Like `_multiply_rows`, but reads nothing behind the rows: `ends`, int32 [64], takes their ends."""
    blocks, tail = stride // 64, stride % 64
    bytes_ = carray(byte_pointer(packed), (count, stride))
    end_bytes = carray(byte_pointer(ends.ctypes.data), (count, 64))
    for each in range(count):
        for at in range(64):
            end_bytes[each, at] = bytes_[each, blocks * 64 + at] if at < tail else 0
    _multiply_rows(ends.ctypes.data, 64, 1, planes + blocks * BLOCK_COLUMNS * digits, digits, count, results)
    begins = results[count:]
    _multiply_rows(packed, stride, blocks, planes, digits, count, begins)
    for each in range(count):
        results[each] += begins[each]


@njit(nogil=True)
def split_matrix(values, tokens, columns, stride, low, high, digits, planes, totals):  # type: ignore[no-untyped-def]
    """Write columns low..high of many activation vectors as `multiply_matrix` wants them.

    Parameters
    ----------
    values : int32 array, at least [(tokens - 1) * stride + columns]
    tokens, columns : int64
    stride : int64
        Elements from one vector to the next, of which `columns` are taken.
    low, high : int64
        `low` is a multiple of four, and `high` one or the number of columns.
    digits : int64
    planes : int32 array
        Four digits to an element: [blocks of tokens, groups of columns, digits, tokens of a block]; tokens
        behind the last are left as they are, their products are never read.
    totals : int32 array [tokens]
        Receives the sums of the columns.
    """
    wide = 64 // digits
    groups = (columns + 3) // 4
    begin = low
    if low % 4 == 0:
        while begin + 64 <= high:
            _split_tiles(values, tokens, stride, begin, groups, digits, planes)
            begin += 64
    for token in range(tokens):
        row = values[token * stride : token * stride + columns]
        first = (token // wide) * groups * 64 + token % wide
        for group in range(begin // 4, (high + 3) // 4):
            for digit in range(digits):
                word = 0
                for place in range(min(4, high - 4 * group)):
                    word |= (_digit(row[4 * group + place], digit, digits) & 255) << (8 * place)
                planes[first + group * 64 + digit * wide] = word
        totals[token] = _total(row[low:high])


@njit(nogil=True)
def _split_tiles(values, tokens, stride, begin, groups, digits, planes):  # type: ignore[no-untyped-def]
    """Write columns begin..begin + 64 of all vectors."""
    wide = 64 // digits
    for token in range(0, tokens, 16):
        count = min(16, tokens - token)
        source = values[token * stride + begin :].ctypes.data
        place = (token // wide) * groups * 64 + begin * 16 + token % wide
        target = planes[place:].ctypes.data
        if digits == 1:
            split_tile(1, source, 4 * stride, count, target)
        elif digits == 2:
            split_tile(2, source, 4 * stride, count, target)
        else:
            split_tile(4, source, 4 * stride, count, target)


@njit(nogil=True)
def _unpack_rows(packed, stride, rows, tile):  # type: ignore[no-untyped-def]
    """Spread each packed byte over the four bytes of a word."""
    bytes_ = carray(byte_pointer(packed), (rows, stride))
    for row in range(rows):
        source, target = bytes_[row], tile[row * stride : (row + 1) * stride]
        for at in range(stride):
            word = int(source[at])
            target[at] = (word | (word << 6) | (word << 12) | (word << 18)) & _FIRST_BITS


@njit(nogil=True)
def multiply_matrix(  # type: ignore[no-untyped-def]
    packed, stride, rows, low, high, tokens, planes, digits, totals, threads, out, tile, scratch
):
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
    planes : int32 array
        From `split_matrix`.
    digits : int64
    totals : int32 array [threads, tokens]
        Sums of the activations, in the parts that each thread added.
    threads : int64
    out : int32 array, at least [tokens * rows]
    tile : int32 array [TILE_ROWS * stride]
    scratch : int32 array [TILE_ROWS * 64]
    """
    wide = 64 // digits
    row = low
    while row < high:
        count = min(TILE_ROWS, high - row)
        _unpack_rows(packed + row * stride, stride, count, tile)
        for block in range((tokens + wide - 1) // wide):
            columns = planes[block * stride * 64 :].ctypes.data
            if digits == 1:
                dot_tile(6, 1, tile.ctypes.data, stride, columns, scratch.ctypes.data)
            elif digits == 2:
                dot_tile(6, 2, tile.ctypes.data, stride, columns, scratch.ctypes.data)
            else:
                dot_tile(6, 4, tile.ctypes.data, stride, columns, scratch.ctypes.data)
            for token in range(block * wide, min(tokens, (block + 1) * wide)):
                total = 0
                for thread in range(threads):
                    total += totals[thread * tokens + token]
                at = token * rows + row
                for each in range(count):
                    out[at + each] = scratch[each * wide + token - block * wide] - total
        row += count

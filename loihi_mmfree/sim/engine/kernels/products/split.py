"""Activations as digits of seven bits, laid out for dot products, as LLVM vector code.

Both layouts are reached by loading 64 columns at a time and shuffling bytes; what is left over at the end of a
vector is done one by one in `ternary`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from loihi_mmfree.sim.engine.kernels.products.vectors import DIGIT_BITS

COLUMNS = 64
"""Columns done together."""
TOKENS = 16
"""Vectors done together when there are many."""

_BYTE, _WORD = ir.IntType(8), ir.IntType(32)
_LOADED = ir.VectorType(_WORD, COLUMNS)
_BYTES = ir.VectorType(_BYTE, COLUMNS)
_WORDS = ir.VectorType(_WORD, TOKENS)


def _mask(lanes: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(_WORD, len(lanes)), [ir.Constant(_WORD, lane) for lane in lanes])


def _each(value: int) -> ir.Constant:
    return ir.Constant(_LOADED, [ir.Constant(_WORD, value)] * COLUMNS)


def _digits(builder: ir.IRBuilder, address: ir.Value, count: int) -> list[ir.Value]:
    """Load columns and return their balanced digits as bytes, lowest first; the last takes all that is left."""
    value = builder.load(builder.inttoptr(address, _LOADED.as_pointer()), align=4, typ=_LOADED)
    found = []
    for _ in range(count - 1):
        rest = builder.ashr(builder.add(value, _each(1 << (DIGIT_BITS - 1))), _each(DIGIT_BITS))
        found.append(builder.trunc(builder.sub(value, builder.shl(rest, _each(DIGIT_BITS))), _BYTES))
        value = rest
    return [*found, builder.trunc(value, _BYTES)]


def _store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    pointer = builder.inttoptr(address, value.type.as_pointer())
    builder.store(value, pointer, align=value.type.element.width // 8)


def transpose(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Exchange rows and columns of TOKENS vectors of TOKENS words."""
    rows = list(rows)
    for step in (1, 2, 4, 8):
        upper = _mask([lane if not lane & step else TOKENS + lane - step for lane in range(TOKENS)])
        lower = _mask([lane + step if not lane & step else TOKENS + lane for lane in range(TOKENS)])
        for at in range(TOKENS):
            if not at & step:
                pair = rows[at], rows[at + step]
                rows[at], rows[at + step] = (builder.shuffle_vector(*pair, mask) for mask in (upper, lower))
    return rows


def _digit_count(digits: Any) -> int | None:
    return digits.literal_value if isinstance(digits, types.IntegerLiteral) else None


@intrinsic(prefer_literal=True)
def split_columns(typing, digits, values, plane):  # type: ignore[no-untyped-def]
    """Write 64 columns of a vector as `vectors.dot_rows` wants them.

    Parameters
    ----------
    digits : literal int
    values : int64
        Address of int32 [64].
    plane : int64
        Address of the first of their 16 bytes in int8 [digits, 4, 64].
    """
    count = _digit_count(digits)
    if count is None:
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, values, plane = arguments
        for number, digit in enumerate(_digits(builder, values, count)):
            for place in range(4):
                lanes = builder.shuffle_vector(digit, digit, _mask(list(range(place, COLUMNS, 4))))
                _store(builder, lanes, builder.add(plane, ir.Constant(plane.type, (4 * number + place) * 64)))
        return context.get_dummy_value()

    return types.void(digits, types.int64, types.int64), generate


@intrinsic(prefer_literal=True)
def split_tile(typing, digits, values, stride, count, planes):  # type: ignore[no-untyped-def]
    """Write 64 columns of up to 16 vectors as `vectors.dot_tile` wants them.

    Parameters
    ----------
    digits : literal int
    values : int64
        Address of the first vector's int32 [64].
    stride : int64
        Bytes from vector to vector.
    count : int64
        Vectors there are, at least 1; the last one stands for those that are missing.
    planes : int64
        Address of the first vector's word of the first group in int32 [16 groups, digits, 64 / digits].
    """
    digit_count = _digit_count(digits)
    if digit_count is None:
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, values, stride, count, planes = arguments
        word = values.type
        last = builder.sub(count, ir.Constant(word, 1))
        found: list[list[Any]] = [[] for _ in range(digit_count)]
        for token in range(TOKENS):
            number = ir.Constant(word, token)
            number = builder.select(builder.icmp_signed("<", number, last), number, last)
            address = builder.add(values, builder.mul(number, stride))
            for rows, digit in zip(found, _digits(builder, address, digit_count), strict=True):
                rows.append(builder.bitcast(digit, _WORDS))
        for number, rows in enumerate(found):
            for group, column in enumerate(transpose(builder, rows)):
                offset = 4 * (64 * group + 64 // digit_count * number)
                _store(builder, column, builder.add(planes, ir.Constant(word, offset)))
        return context.get_dummy_value()

    return types.void(digits, *(types.int64,) * 4), generate

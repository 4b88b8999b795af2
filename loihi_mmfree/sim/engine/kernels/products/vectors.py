"""Dot products of bytes as LLVM vector code: what numba's own vectoriser does not find.

All of it is written for vectors of 64 bytes, which LLVM splits into what the machine has. Only the four-way
dot product looks at the machine's features, as numba reports them for the code it is generating: VNNI, AVX2,
or plain vector arithmetic for everything else (SSE2, NEON).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from loihi_mmfree.sim.engine.kernels.lanes import prefetch

VECTOR_BYTES = 64
LANES = 16
"""Sums of 32 bits in a vector."""
DIGIT_BITS = 7
"""An activation is written as balanced digits of this many bits, each held in a signed byte."""
AHEAD_BYTES = 8192
"""How far ahead of the rows in work weights are asked for: beyond a page, where the processor stops guessing."""

_BYTE, _WORD, _SUM = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_BYTES = ir.VectorType(_BYTE, VECTOR_BYTES)
_WORDS = ir.VectorType(_WORD, VECTOR_BYTES // 2)
_SUMS = ir.VectorType(_SUM, LANES)


def _splat(vector: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(vector, [ir.Constant(vector.element, value)] * vector.count)


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: list[ir.Value]) -> ir.Value:
    kind = ir.FunctionType(result, [each.type for each in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _load(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    pointer = builder.inttoptr(address, kind.as_pointer())
    return builder.load(pointer, align=1)


def _dot(context: Any, builder: ir.IRBuilder, total: ir.Value, fields: ir.Value, digits: ir.Value) -> ir.Value:
    """total[i] + the sum over four bytes of fields (unsigned, at most 12) times digits (signed)."""
    features = context.codegen().magic_tuple()[2].split(",")
    if "+avx512vnni" in features:
        return _call(builder, "llvm.x86.avx512.vpdpbusd.512", _SUMS, [total, fields, digits])
    if "+avx2" in features:
        return _dot_avx2(builder, total, fields, digits)
    return _dot_anywhere(builder, total, fields, digits)


def _dot_avx2(builder: ir.IRBuilder, total: ir.Value, fields: ir.Value, digits: ir.Value) -> ir.Value:
    """Two halves of pmaddubsw and pmaddwd; 2 * 12 * 64 is far below where pmaddubsw would saturate."""
    _bytes_32, words_16 = ir.VectorType(_BYTE, 32), ir.VectorType(_WORD, 16)
    sums_8, index = ir.VectorType(_SUM, 8), ir.VectorType(_SUM, 32)
    halves = []
    for half in (0, 1):
        mask = ir.Constant(index, [ir.Constant(_SUM, 32 * half + each) for each in range(32)])
        pair = [builder.shuffle_vector(each, each, mask) for each in (fields, digits)]
        words = _call(builder, "llvm.x86.avx2.pmadd.ub.sw", words_16, pair)
        halves.append(_call(builder, "llvm.x86.avx2.pmadd.wd", sums_8, [words, _splat(words_16, 1)]))
    both = ir.Constant(_SUMS, [ir.Constant(_SUM, each) for each in range(LANES)])
    return builder.add(total, builder.shuffle_vector(*halves, both))


def _dot_anywhere(builder: ir.IRBuilder, total: ir.Value, fields: ir.Value, digits: ir.Value) -> ir.Value:
    """Even and odd bytes as 16-bit lanes; 2 * 12 * 64 fits those."""
    eight, sixteen = _splat(_WORDS, 8), _splat(_SUMS, 16)
    fields, digits = builder.bitcast(fields, _WORDS), builder.bitcast(digits, _WORDS)
    even = builder.mul(builder.and_(fields, _splat(_WORDS, 255)), builder.ashr(builder.shl(digits, eight), eight))
    odd = builder.mul(builder.lshr(fields, eight), builder.ashr(digits, eight))
    pairs = builder.bitcast(builder.add(even, odd), _SUMS)
    low = builder.ashr(builder.shl(pairs, sixteen), sixteen)
    return builder.add(total, builder.add(low, builder.ashr(pairs, sixteen)))


def _accumulators(builder: ir.IRBuilder, count: int) -> list[ir.Value]:
    return [cgutils.alloca_once_value(builder, _splat(_SUMS, 0)) for _ in range(count)]


def _literals(*arguments: Any) -> bool:
    return all(isinstance(each, types.IntegerLiteral) for each in arguments)


@intrinsic
def ask_for(typing, address):  # type: ignore[no-untyped-def]
    """Ask for the first AHEAD_BYTES of rows that `dot_rows` will read."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        (address,) = arguments
        lines = ir.Constant(address.type, AHEAD_BYTES // VECTOR_BYTES)
        with cgutils.for_range(builder, lines, intp=address.type) as loop:
            offset = builder.mul(loop.index, ir.Constant(address.type, VECTOR_BYTES))
            prefetch(builder, builder.add(address, offset), level=2)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic(prefer_literal=True)
def dot_rows(  # type: ignore[no-untyped-def]
    typing, rows, digits, packed, stride, planes, blocks, out
):
    """Dot products of packed ternary rows with one activation vector.

    Parameters
    ----------
    rows, digits : literal int
        Rows done together, and digits of an activation.
    packed, stride : int64
        Address of the first row, bytes from row to row.
    planes : int64
        Address of int8 [blocks, digits, 4, 64]: digit d of column 256 b + 4 j + s is at [b, d, s, j].
    blocks : int64
        Number of blocks of 64 packed bytes.
    out : int64
        Address of int32 [rows], receives the sum of (code + 1) * activation.
    """
    if not _literals(rows, digits):
        return None
    row_count, digit_count = rows.literal_value, digits.literal_value

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, _, packed, stride, planes, blocks, out = arguments
        word = packed.type
        # Fields at bits 0 and 2 of a byte are multiplied where they are: sums of scale 1 and 4.
        totals = [[_accumulators(builder, 2) for _ in range(digit_count)] for _ in range(row_count)]
        starts = [builder.add(packed, builder.mul(stride, ir.Constant(word, row))) for row in range(row_count)]
        ahead = builder.add(packed, ir.Constant(word, AHEAD_BYTES))
        with cgutils.for_range(builder, blocks, intp=word) as loop:
            step = builder.mul(loop.index, ir.Constant(word, VECTOR_BYTES))
            # Several rows at once look random to the processor; what is asked for comes in the order of addresses.
            lines = builder.add(ahead, builder.mul(step, ir.Constant(word, row_count)))
            for line in range(row_count):
                prefetch(builder, builder.add(lines, ir.Constant(word, line * VECTOR_BYTES)), level=2)
            plane = builder.add(planes, builder.mul(step, ir.Constant(word, 4 * digit_count)))
            activations = [
                _load(builder, builder.add(plane, ir.Constant(word, each * VECTOR_BYTES)), _BYTES)
                for each in range(4 * digit_count)
            ]
            for row in range(row_count):
                low = _load(builder, builder.add(starts[row], step), _BYTES)
                words = builder.lshr(builder.bitcast(low, _WORDS), _splat(_WORDS, 4))
                high = builder.bitcast(words, _BYTES)
                for place, source in enumerate((low, low, high, high)):
                    scale = place & 1
                    fields = builder.and_(source, _splat(_BYTES, (3, 12)[scale]))
                    for digit in range(digit_count):
                        total = totals[row][digit][scale]
                        activation = activations[4 * digit + place]
                        builder.store(_dot(context, builder, builder.load(total), fields, activation), total)
        for row in range(row_count):
            result = _splat(_SUMS, 0)
            for digit in range(digit_count):
                one, four = (builder.load(total) for total in totals[row][digit])
                part = builder.add(one, builder.ashr(four, _splat(_SUMS, 2)))
                result = builder.add(result, builder.shl(part, _splat(_SUMS, DIGIT_BITS * digit)))
            total = _call(builder, f"llvm.vector.reduce.add.v{LANES}i32", _SUM, [result])
            address = builder.add(out, ir.Constant(word, 4 * row))
            builder.store(total, builder.inttoptr(address, _SUM.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(rows, digits, *(types.int64,) * 5), generate


@intrinsic(prefer_literal=True)
def dot_tile(typing, rows, digits, tile, groups, columns, out):  # type: ignore[no-untyped-def]
    """Dot products of unpacked ternary rows with 64 / digits activation vectors.

    Parameters
    ----------
    rows, digits : literal int
        Rows done together, and digits of an activation: 1, 2 or 4.
    tile : int64
        Address of uint8 [rows, groups, 4], fields 0 to 2.
    groups : int64
        Number of groups of four columns.
    columns : int64
        Address of int8 [groups, digits, 64 / digits, 4].
    out : int64
        Address of int32 [rows, 64 / digits].
    """
    if not _literals(rows, digits):
        return None
    row_count, digit_count = rows.literal_value, digits.literal_value

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, _, tile, groups, columns, out = arguments
        word = tile.type
        totals = [_accumulators(builder, 4) for _ in range(row_count)]
        pitch = builder.mul(groups, ir.Constant(word, 4))
        starts = [builder.add(tile, builder.mul(pitch, ir.Constant(word, row))) for row in range(row_count)]
        with cgutils.for_range(builder, groups, intp=word) as loop:
            start = builder.add(columns, builder.mul(loop.index, ir.Constant(word, 4 * VECTOR_BYTES)))
            vectors = [
                _load(builder, builder.add(start, ir.Constant(word, each * VECTOR_BYTES)), _BYTES)
                for each in range(4)
            ]
            step = builder.mul(loop.index, ir.Constant(word, 4))
            for row in range(row_count):
                four = _load(builder, builder.add(starts[row], step), _SUM)
                single = builder.insert_element(ir.Constant(_SUMS, ir.Undefined), four, ir.Constant(_SUM, 0))
                spread = builder.shuffle_vector(single, single, _splat(_SUMS, 0))
                fields = builder.bitcast(spread, _BYTES)
                for each in range(4):
                    total = totals[row][each]
                    builder.store(_dot(context, builder, builder.load(total), fields, vectors[each]), total)
        per_digit = 4 // digit_count
        for row in range(row_count):
            for each in range(per_digit):
                result = _splat(_SUMS, 0)
                for digit in range(digit_count):
                    part = builder.load(totals[row][digit * per_digit + each])
                    result = builder.add(result, builder.shl(part, _splat(_SUMS, DIGIT_BITS * digit)))
                offset = 4 * LANES * (row * per_digit + each)
                address = builder.add(out, ir.Constant(word, offset))
                builder.store(result, builder.inttoptr(address, _SUMS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(rows, digits, *(types.int64,) * 4), generate

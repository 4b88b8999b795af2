"""Sums looked up instead of products: signed sums of three activations in a vector register, as LLVM code.

Three ternary weights have 27 values, so what they make of three activations is one of 27 sums. These are 16 bits
wide and fit one vector, and a permutation of words (`vpermw`) looks up 32 rows of weights at once. A unit is
twelve columns, three packed bytes, four look-ups; twelve activations of twelve bits add up within 16 bits, and
are then widened. `layout.looks_up_sums` names the machines that this is meant for; for others see
`sums_are_compiled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from loihi_mmfree.sim.engine.kernels.conventions import (
    LOOKUPS,
    SUM_TOKENS,
    UNIT_BYTES,
    UNIT_COLUMNS,
    has_word_permutation,
)
from loihi_mmfree.sim.engine.kernels.lanes import prefetch
from loihi_mmfree.sim.engine.kernels.products.split import transpose

VECTOR_BYTES = 64
HALVES = 2
"""Vectors of 32 rows that are looked up together; their tables are loaded once."""
_PLACES = (1, 3, 11)
"""What the codes of three columns, 0 to 2, count in an index: see `_indices`."""

_BYTE, _SHORT, _WORD, _LONG = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_SHORTS, _WORDS = ir.VectorType(_SHORT, 32), ir.VectorType(_WORD, 16)
_ROW_BYTES = ir.VectorType(_BYTE, VECTOR_BYTES)
_ACTIVATIONS = ir.VectorType(_WORD, UNIT_COLUMNS)


def _each(kind: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)


def _lanes(lanes: Sequence[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(_WORD, len(lanes)), [ir.Constant(_WORD, lane) for lane in lanes])


def _at(builder: ir.IRBuilder, address: ir.Value, offset: int) -> ir.Value:
    return builder.add(address, ir.Constant(address.type, offset))


def _load(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1, typ=kind)


def _store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    kind = ir.FunctionType(result, [each.type for each in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _possible(context: Any) -> bool:
    """Whether there can be code: without it LLVM would have nothing for `vpermw`, and nobody calls it."""
    return has_word_permutation(context.codegen().magic_tuple()[2])


@intrinsic
def sums_are_compiled(typing):  # type: ignore[no-untyped-def]
    """Whether the other functions here do anything on the machine that code is being generated for."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return ir.Constant(ir.IntType(1), int(_possible(context)))

    return types.boolean(), generate


@intrinsic
def write_sums(typing, values, tables):  # type: ignore[no-untyped-def]
    """Write the tables of a unit of one activation vector.

    Parameters
    ----------
    values : int64
        Address of int32 [12], each of at most 12 bits.
    tables : int64
        Address of the vector's own 32 words in int16 [4, 4 tokens, 32].
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        values, tables = arguments
        if not _possible(context):
            return context.get_dummy_value()
        plus = builder.trunc(_load(builder, values, _ACTIVATIONS), ir.VectorType(_SHORT, UNIT_COLUMNS))
        minus = builder.neg(plus)
        both = builder.shuffle_vector(plus, minus, _lanes([*range(2 * UNIT_COLUMNS), *[0] * 8]))
        for lookup in range(LOOKUPS):
            terms = [
                builder.shuffle_vector(both, _each(_SHORTS, 0), _lanes(_signed_lanes(3 * lookup + each, each)))
                for each in range(3)
            ]
            total = builder.add(builder.add(terms[0], terms[1]), terms[2])
            _store(builder, total, _at(builder, tables, lookup * SUM_TOKENS * VECTOR_BYTES))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _signed_lanes(column: int, place: int) -> list[int]:
    """Return, for every index, where a column's activation times its weight lies: as it is, negated, or zero."""
    lanes = [32] * 32
    for first in range(3):
        for second in range(3):
            for third in range(3):
                codes = first, second, third
                index = sum(code * count for code, count in zip(codes, _PLACES, strict=True))
                lanes[index] = (column + UNIT_COLUMNS, 32, column)[codes[place]]
    return lanes


@intrinsic
def spread_codes(typing, packed, stride, count, codes):  # type: ignore[no-untyped-def]
    """Turn 48 packed bytes of each of 32 rows into the indices of 16 units.

    Parameters
    ----------
    packed, stride : int64
        Address of the first row's bytes, of which 64 are read; bytes from row to row.
    count : int64
        Rows there are, at least 1; the last one stands for those that are missing.
    codes : int64
        Address of the rows' own 64 words in uint16 [16, 2 halves, 2, 32]; see `add_sums`.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        packed, stride, count, codes = arguments
        if not _possible(context):
            return context.get_dummy_value()
        last = builder.sub(count, ir.Constant(count.type, 1))
        both = []
        for half in range(2):
            rows = []
            for each in range(16):
                number = ir.Constant(count.type, 16 * half + each)
                number = builder.select(builder.icmp_signed("<", number, last), number, last)
                row = _load(builder, builder.add(packed, builder.mul(number, stride)), _ROW_BYTES)
                rows.append(_indices(builder, row))
                # Rows lie too far apart for the processor to guess which come next.
                ahead = builder.mul(stride, ir.Constant(stride.type, 32 + 16 * half + each))
                prefetch(builder, builder.add(packed, ahead))
            both.append(transpose(builder, rows))
        for unit, (low, high) in enumerate(zip(*both, strict=True)):
            first = builder.or_(builder.and_(low, _each(_WORDS, 0xFFF)), builder.shl(high, _each(_WORDS, 16)))
            twelve = _each(_WORDS, 12)
            upper = builder.shl(builder.lshr(high, twelve), _each(_WORDS, 16))
            second = builder.or_(builder.lshr(low, twelve), upper)
            place = unit * HALVES * 2 * VECTOR_BYTES
            _store(builder, first, _at(builder, codes, place))
            _store(builder, second, _at(builder, codes, place + VECTOR_BYTES))
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 4), generate


def _indices(builder: ir.IRBuilder, row: ir.Value) -> ir.Value:
    """Turn the three bytes of each unit, codes a + 4 b + 16 c, into four indices a + 3 b + 11 c of six bits.

    These are all different and below 32, and come of two shifts: what is taken away is b + 4 c and then c.
    """
    zero = VECTOR_BYTES
    lanes = [zero if byte == UNIT_BYTES else UNIT_BYTES * unit + byte for unit in range(16) for byte in range(4)]
    spread = builder.shuffle_vector(row, _each(_ROW_BYTES, 0), _lanes(lanes))
    units = builder.bitcast(spread, _WORDS)
    two = builder.and_(builder.lshr(units, _each(_WORDS, 2)), _each(_WORDS, 0o17171717))
    one = builder.and_(builder.lshr(units, _each(_WORDS, 4)), _each(_WORDS, 0o03030303))
    return builder.sub(builder.sub(units, two), one)


@intrinsic
def add_sums(typing, units, codes, tables, sums):  # type: ignore[no-untyped-def]
    """Add what 64 rows of weights make of a few units of four activation vectors.

    Parameters
    ----------
    units : int64
    codes : int64
        Address of uint16 [units, 2 halves, 2, 32]: look-ups 2 j and 2 j + 1 in bits 0 to 5 and 6 to 11 of
        word j; even lanes hold rows 0 to 15 of a half, odd ones the others.
    tables : int64
        Address of int16 [units, 4 look-ups, 4 tokens, 32].
    sums : int64
        Address of int32 [4 tokens, 64 rows].
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        units, codes, tables, sums = arguments
        if not _possible(context):
            return context.get_dummy_value()
        places = [
            (token, half, part, _at(builder, sums, ((token * HALVES + half) * 2 + part) * VECTOR_BYTES))
            for token in range(SUM_TOKENS)
            for half in range(HALVES)
            for part in range(2)
        ]
        totals = {
            (token, half, part): cgutils.alloca_once_value(builder, _load(builder, address, _WORDS))
            for token, half, part, address in places
        }
        with cgutils.for_range(builder, units, intp=units.type) as loop:
            code = builder.add(codes, builder.mul(loop.index, ir.Constant(_LONG, HALVES * 2 * VECTOR_BYTES)))
            size = LOOKUPS * SUM_TOKENS * VECTOR_BYTES
            table = builder.add(tables, builder.mul(loop.index, ir.Constant(_LONG, size)))
            for (token, half), short in _unit(builder, code, table).items():
                for part in range(2):
                    total = totals[token, half, part]
                    builder.store(builder.add(builder.load(total), _widen(builder, short, part)), total)
        for token, half, part, address in places:
            _store(builder, builder.load(totals[token, half, part]), address)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 4), generate


def _unit(builder: ir.IRBuilder, code: ir.Value, table: ir.Value) -> dict[tuple[int, int], ir.Value]:
    """Return the sums over a unit in 16 bits, by token and half."""
    found: dict[tuple[int, int], Any] = {}
    words: list[ir.Value] = []
    for lookup in range(LOOKUPS):
        if lookup % 2 == 0:
            at = lookup // 2 * VECTOR_BYTES
            words = [
                _load(builder, _at(builder, code, 2 * half * VECTOR_BYTES + at), _SHORTS) for half in range(HALVES)
            ]
        else:
            words = [builder.lshr(word, _each(_SHORTS, 6)) for word in words]
        for token in range(SUM_TOKENS):
            entries = _load(builder, _at(builder, table, (lookup * SUM_TOKENS + token) * VECTOR_BYTES), _SHORTS)
            for half, word in enumerate(words):
                value = _call(builder, "llvm.x86.avx512.permvar.hi.512", _SHORTS, entries, word)
                before = found.get((token, half))
                found[token, half] = value if before is None else builder.add(before, value)
    return found


def _widen(builder: ir.IRBuilder, short: ir.Value, part: int) -> ir.Value:
    """Return the even (part 0) or odd lanes in 32 bits; LLVM makes it `vpdpwssd` with the addition after it."""
    ones = ir.Constant(_SHORTS, [ir.Constant(_SHORT, int(lane % 2 == part)) for lane in range(32)])
    return _call(builder, "llvm.x86.avx512.pmaddw.d.512", _WORDS, short, ones)

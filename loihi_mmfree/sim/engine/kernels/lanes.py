"""Arithmetic of neuron programs on LLVM vectors, in lanes of 32 or 64 bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import ir

INT, LONG, FLAG = ir.IntType(32), ir.IntType(64), ir.IntType(1)


class Lanes:
    """Writes vector instructions of a given number of lanes.

    Parameters
    ----------
    builder : ir.IRBuilder
    count : int
        Lanes of every vector.
    """

    def __init__(self, builder: ir.IRBuilder, count: int) -> None:
        self.builder, self.count = builder, count

    def vector(self, kind: ir.IntType) -> ir.VectorType:
        """Return the type of a vector."""
        return ir.VectorType(kind, self.count)

    def number(self, value: int, kind: ir.IntType) -> ir.Constant:
        """Return a literal in every lane."""
        return ir.Constant(self.vector(kind), [value] * self.count)

    def like(self, value: int, other: ir.Value) -> ir.Constant:
        """Return a literal in every lane, as wide as those of another vector."""
        return self.number(value, other.type.element)

    def splat(self, value: ir.Value) -> ir.Value:
        """Return a scalar in every lane."""
        undefined = ir.Constant(self.vector(value.type), ir.Undefined)
        single = self.builder.insert_element(undefined, value, INT(0))
        return self.builder.shuffle_vector(single, single, ir.Constant(self.vector(INT), None))

    def cast(self, value: ir.Value, kind: ir.IntType) -> ir.Value:
        """Return a signed value, vector or scalar, in another width."""
        scalar = not isinstance(value.type, ir.VectorType)
        have, want = (value.type, kind) if scalar else (value.type.element, self.vector(kind))
        if have.width == kind.width:
            return value
        return self.builder.sext(value, want) if have.width < kind.width else self.builder.trunc(value, want)

    def intrinsic(self, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
        """Call one of LLVM's own functions by its full name."""
        module = self.builder.module
        kind = ir.FunctionType(result, [each.type for each in arguments])
        return self.builder.call(module.globals.get(name) or ir.Function(module, kind, name), arguments)

    def extreme(self, name: str, x: ir.Value, y: ir.Value) -> ir.Value:
        """Return the smaller ("smin") or larger ("smax") of two vectors."""
        return self.intrinsic(f"llvm.{name}.v{self.count}i{x.type.element.width}", x.type, x, y)

    def sum(self, vector: ir.Value) -> ir.Value:
        """Return the sum of all lanes."""
        kind = vector.type.element
        return self.intrinsic(f"llvm.vector.reduce.add.v{self.count}i{kind.width}", kind, vector)

    def join(self, vector: ir.Value) -> ir.Value:
        """Return the bits that are set in any lane."""
        kind = vector.type.element
        return self.intrinsic(f"llvm.vector.reduce.or.v{self.count}i{kind.width}", kind, vector)

    def absolute(self, x: ir.Value) -> ir.Value:
        """Return |x|."""
        return self.extreme("smax", x, self.builder.sub(self.like(0, x), x))

    def low_mask(self, count: ir.Value) -> ir.Value:
        """Return 2**count - 1."""
        one = self.like(1, count)
        return self.builder.sub(self.builder.shl(one, count), one)

    def rounding_shift(self, x: ir.Value, distance: ir.Value) -> ir.Value:
        """Return (x + half) >> distance, rule R4."""
        one = self.like(1, x)
        half = self.builder.lshr(self.builder.shl(one, distance), one)
        return self.builder.ashr(self.builder.add(x, half), distance)

    def saturate(self, x: ir.Value, bits: ir.Value) -> ir.Value:
        """Clamp to +-(2**(bits-1) - 1)."""
        limit = self.low_mask(self.builder.sub(bits, self.like(1, bits)))
        negative = self.builder.sub(self.like(0, x), limit)
        return self.extreme("smin", self.extreme("smax", x, negative), limit)

    def lerp(self, weight: ir.Value, x: ir.Value, y: ir.Value, bits: ir.Value) -> ir.Value:
        """Return (w x + (2**bits - w) y) >> bits, rounded once."""
        builder = self.builder
        rest = builder.sub(builder.shl(self.like(1, weight), bits), weight)
        return self.rounding_shift(builder.add(builder.mul(weight, x), builder.mul(rest, y)), bits)

    def exponent(self, x: ir.Value, bits: ir.Value) -> ir.Value:
        """Return `arithmetic.even_exponent`; lanes of 64 bits."""
        builder = self.builder
        zeros = self.intrinsic(f"llvm.ctlz.v{self.count}i64", x.type, x, FLAG(0))
        excess = builder.sub(builder.sub(self.like(64, x), zeros), bits)
        even = builder.add(excess, builder.and_(excess, self.like(1, x)))
        return builder.select(builder.icmp_signed(">", x, self.like(0, x)), even, self.like(0, x))

    def mantissa(self, x: ir.Value, bits: ir.Value) -> ir.Value:
        """Return `arithmetic.mantissa`; lanes of 64 bits."""
        zero, exponent = self.like(0, x), self.exponent(x, bits)
        left = self.extreme("smax", self.builder.sub(zero, exponent), zero)
        right = self.extreme("smax", exponent, zero)
        shifted = self.rounding_shift(self.builder.shl(x, left), right)
        return self.extreme("smin", shifted, self.low_mask(bits))

    def lookup(self, address: ir.Value, index: ir.Value) -> ir.Value:
        """Return the int32 entries of a table at non-negative indices."""
        builder = self.builder
        found = ir.Constant(self.vector(INT), ir.Undefined)
        for lane in range(self.count):
            number = builder.extract_element(index, INT(lane))
            wide = builder.zext(number, LONG) if number.type.width < LONG.width else number
            entry = builder.inttoptr(builder.add(address, builder.mul(wide, LONG(4))), INT.as_pointer())
            found = builder.insert_element(found, builder.load(entry, typ=INT), INT(lane))
        return found

    def load(self, address: ir.Value, kind: ir.IntType) -> ir.Value:
        """Load a vector that is aligned to its elements."""
        pointer = self.builder.inttoptr(address, self.vector(kind).as_pointer())
        return self.builder.load(pointer, align=kind.width // 8, typ=self.vector(kind))

    def store(self, value: ir.Value, address: ir.Value) -> None:
        """Store a vector that is aligned to its elements."""
        pointer = self.builder.inttoptr(address, value.type.as_pointer())
        self.builder.store(value, pointer, align=value.type.element.width // 8)


ARITHMETIC: Mapping[str, Callable[..., ir.Value]] = {
    "add": lambda lanes, _, x, y: lanes.builder.add(x, y),
    "sub": lambda lanes, _, x, y: lanes.builder.sub(x, y),
    "mul": lambda lanes, _, x, y: lanes.builder.mul(x, y),
    "shift_left": lambda lanes, distance, x: lanes.builder.shl(x, distance),
    "shift_right": lambda lanes, distance, x: lanes.rounding_shift(x, distance),
    "high_bits": lambda lanes, count, x: lanes.builder.ashr(x, count),
    "low_bits": lambda lanes, count, x: lanes.builder.and_(x, lanes.low_mask(count)),
    "absolute": lambda lanes, _, x: lanes.absolute(x),
    "min": lambda lanes, _, x, y: lanes.extreme("smin", x, y),
    "max": lambda lanes, _, x, y: lanes.extreme("smax", x, y),
    "lerp": lambda lanes, bits, weight, x, y: lanes.lerp(weight, x, y, bits),
    "exponent": lambda lanes, bits, x: lanes.exponent(x, bits),
    "mantissa": lambda lanes, bits, x: lanes.mantissa(x, bits),
}
"""Operation -> function (Lanes, immediate, *operands), all as wide as the operation computes."""


def load_word(builder: ir.IRBuilder, address: ir.Value, number: int, kind: Any = LONG) -> ir.Value:
    """Load element `number` of an array of integers."""
    at = builder.add(address, LONG(kind.width // 8 * number))
    return builder.load(builder.inttoptr(at, kind.as_pointer()), typ=kind)


def prefetch(builder: ir.IRBuilder, address: ir.Value, level: int = 1) -> None:
    """Ask for a cache line that will be read, into the cache of a level (1 or 2); any address will do."""
    pointer = builder.inttoptr(address, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, INT, INT, INT])
    name = "llvm.prefetch.p0"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    builder.call(function, [pointer, INT(0), INT(4 - level), INT(1)])

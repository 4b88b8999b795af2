"""Whether the declared widths of what a program reads prove those of everything it computes.

The proof of `fixedpoint.proof` follows each neuron from the ranges of the whole network. This one asks
less and takes microseconds: one range for all neurons, from the declared widths alone. Where it holds, a
kernel checks what arrives, and nothing else. Imports no numba.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.operations import MAX_REGISTER_BITS, OPERATIONS, Named, rule_for
from loihi_mmfree.fixedpoint.program import Instruction, Program
from loihi_mmfree.sim.engine.kernels.conventions import MESSAGE_BITS

Range = tuple[int, int]

LIMIT = 1 << (MAX_REGISTER_BITS - 1)
"""No intermediate of the specification reaches this."""
NARROW_BITS = 31
"""A register of so many bits is held in a lane of 32, with room to add the half of a rounding shift."""


@dataclass(frozen=True)
class Rule:
    """What the kernels know of an operation before they write it.

    Parameters
    ----------
    range : callable (immediate, *Ranges) -> Range or None
        Where its result lies; None if something about it cannot be promised. A table is given as its array.
    wide : callable (immediate, *bits) -> bool
        Whether it computes in 64 bits though its result fits 32, by the declared widths of its operands.
    """

    range: Callable[..., Range | None]
    wide: Callable[..., bool]


def rule_of(each: Instruction) -> Rule:
    """Return what the kernels know of an instruction's operation."""
    return rule_for(RULES, each.operation, "the assembler of the kernels (kernels/programs/ranges.py)")


def widths_hold(program: Program, constants: Mapping[str, Integers], tables: Mapping[str, Integers]) -> bool:
    """Whether no register overflows, no table is read outside and every message fits 32 bits.

    Assumes that inputs and states are within +-(2**(bits-1) - 1) of the registers they are loaded into, and
    that shift distances held in registers are in 0..63.

    Parameters
    ----------
    program : Program
    constants, tables : mapping name -> int64 array
    """
    ranges: dict[str, Range] = {}
    for each in program.instructions:
        operation = OPERATIONS[each.operation]
        if operation.result is None:
            if operation.named is Named.OUTPUT and not _fits(ranges[each.registers[0]], MESSAGE_BITS):
                return False
            continue
        arguments: list[Range | Integers] = [ranges[name] for name in each.registers]
        if operation.named is not None:
            arguments.insert(0, _named(each, operation.named, constants, tables))
        found = rule_of(each).range(each.immediate, *arguments)
        if found is None or found[0] <= -LIMIT or found[1] >= LIMIT or not _fits(found, each.bits):
            return False
        ranges[each.target] = found
    return True


def _fits(found: Range, bits: int) -> bool:
    return -(1 << (bits - 1)) <= found[0] and found[1] < 1 << (bits - 1)


def _named(
    each: Instruction, named: Named, constants: Mapping[str, Integers], tables: Mapping[str, Integers]
) -> Range | Integers:
    """Return what is known of what an instruction loads by name."""
    if named is Named.TABLE:
        return tables[each.operands[0]]
    if named is Named.CONSTANT:
        values = constants[each.operands[0]]
        return int(values.min()), int(values.max())
    limit = (1 << (each.bits - 1)) - 1
    return -limit, limit


def _table(_: int, table: Integers, index: Range) -> Range | None:
    low, high = index
    if low < 0 or high >= len(table):
        return None
    return int(table[low : high + 1].min()), int(table[low : high + 1].max())


def _mul(_: int, x: Range, y: Range) -> Range:
    corners = [a * b for a in x for b in y]
    return min(corners), max(corners)


def _rounding_shift(distance: int, x: Range) -> Range:
    half = (1 << distance) >> 1
    return (x[0] + half) >> distance, (x[1] + half) >> distance


def _shift_right_by(_: int, x: Range, distance: Range) -> Range:
    # A longer shift only brings a value nearer to zero.
    return min(x[0], 0), max(x[1], 0)


def _absolute(_: int, x: Range) -> Range:
    low, high = sorted(map(abs, x))
    return (0 if x[0] <= 0 <= x[1] else low), high


def _saturate(bits: int, x: Range) -> Range:
    limit = (1 << (bits - 1)) - 1
    return max(min(x[0], limit), -limit), max(min(x[1], limit), -limit)


def _lerp(bits: int, weight: Range, x: Range, y: Range) -> Range | None:
    low, high = min(x[0], y[0]), max(x[1], y[1])
    promised = weight[0] >= 0 and weight[1] <= 1 << bits and max(-low, high) << bits < LIMIT // 2
    return (low, high) if promised else None


def _exponent(bits: int, x: Range) -> Range | None:
    return (-bits, max(x[1].bit_length() - bits + 1, 0)) if x[0] >= 0 else None


def _mantissa(bits: int, x: Range) -> Range | None:
    return (0, (1 << bits) - 1) if x[0] >= 0 else None


def _wide(immediate: int, *bits: int) -> bool:
    return max(bits) > NARROW_BITS or immediate > NARROW_BITS - 1


def _wide_ends(_: int, condition: int, *ends: int) -> bool:
    return max(ends) > NARROW_BITS


def _wide_lerp(immediate: int, weight: int, *ends: int) -> bool:
    # |w a + (1 - w) b|, rounded, stays below this power of two.
    return max(ends) - 1 + immediate > NARROW_BITS


def _loaded(_: int, value: Range) -> Range:
    return value


def _always(*_: int) -> bool:
    return True


def _never(*_: int) -> bool:
    return False


RULES: Mapping[str, Rule] = {
    "input": Rule(_loaded, _never),
    "state": Rule(_loaded, _never),
    "constant": Rule(_loaded, _never),
    "immediate": Rule(lambda value: (value, value), _never),
    "add": Rule(lambda _, x, y: (x[0] + y[0], x[1] + y[1]), _wide),
    "sub": Rule(lambda _, x, y: (x[0] - y[1], x[1] - y[0]), _wide),
    "mul": Rule(_mul, _wide),
    "shift_left": Rule(lambda distance, x: (x[0] << distance, x[1] << distance), _wide),
    "shift_right": Rule(_rounding_shift, _wide),
    "shift_right_by": Rule(_shift_right_by, _always),
    "high_bits": Rule(lambda count, x: (x[0] >> count, x[1] >> count), _wide),
    "low_bits": Rule(lambda count, x: (0, (1 << count) - 1), _wide),
    "absolute": Rule(_absolute, _wide),
    "min": Rule(lambda _, x, y: (min(x[0], y[0]), min(x[1], y[1])), _wide),
    "max": Rule(lambda _, x, y: (max(x[0], y[0]), max(x[1], y[1])), _wide),
    "saturate": Rule(_saturate, _wide),
    "select": Rule(lambda _, condition, x, y: (min(x[0], y[0]), max(x[1], y[1])), _wide_ends),
    "lerp": Rule(_lerp, _wide_lerp),
    "exponent": Rule(_exponent, _always),
    "mantissa": Rule(_mantissa, _always),
    "table": Rule(_table, _never),
}
"""Operation that writes a register -> rule."""

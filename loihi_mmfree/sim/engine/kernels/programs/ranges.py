"""Whether the declared widths of what a program reads prove those of everything it computes.

The proof of `fixedpoint.intervals` follows each neuron from the ranges of the whole network. This one asks
less and takes microseconds: one range for all neurons, from the declared widths alone. Where it holds, a
kernel checks what arrives, and nothing else. Imports no numba.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.program import MAX_REGISTER_BITS, Instruction, Program
from loihi_mmfree.sim.engine.kernels.conventions import MESSAGE_BITS

Range = tuple[int, int]

LIMIT = 1 << (MAX_REGISTER_BITS - 1)
"""No intermediate of the specification reaches this."""


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
        if not each.target:
            if each.operation == "send" and not _fits(ranges[each.operands[1]], MESSAGE_BITS):
                return False
            continue
        found = _evaluate(each, ranges, constants, tables)
        if found is None or not _fits(found, each.bits):
            return False
        ranges[each.target] = found
    return True


def _fits(found: Range, bits: int) -> bool:
    return -(1 << (bits - 1)) <= found[0] and found[1] < 1 << (bits - 1)


def _evaluate(
    each: Instruction,
    ranges: Mapping[str, Range],
    constants: Mapping[str, Integers],
    tables: Mapping[str, Integers],
) -> Range | None:
    """Return the range of a register, or None if something about it cannot be promised."""
    match each.operation:
        case "input" | "state":
            limit = (1 << (each.bits - 1)) - 1
            return -limit, limit
        case "constant":
            values = constants[each.operands[0]]
            return int(values.min()), int(values.max())
        case "immediate":
            return each.immediate, each.immediate
        case "table":
            table, (low, high) = tables[each.operands[0]], ranges[each.operands[1]]
            if low < 0 or high >= len(table):
                return None
            return int(table[low : high + 1].min()), int(table[low : high + 1].max())
        case operation:
            found = _RULES[operation](each.immediate, *(ranges[name] for name in each.operands))
            return found if found is None or (found[0] > -LIMIT and found[1] < LIMIT) else None


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


_RULES: Mapping[str, Callable[..., Range | None]] = {
    "add": lambda _, x, y: (x[0] + y[0], x[1] + y[1]),
    "sub": lambda _, x, y: (x[0] - y[1], x[1] - y[0]),
    "mul": _mul,
    "shift_left": lambda distance, x: (x[0] << distance, x[1] << distance),
    "shift_right": _rounding_shift,
    "shift_right_by": _shift_right_by,
    "high_bits": lambda count, x: (x[0] >> count, x[1] >> count),
    "low_bits": lambda count, x: (0, (1 << count) - 1),
    "absolute": _absolute,
    "min": lambda _, x, y: (min(x[0], y[0]), min(x[1], y[1])),
    "max": lambda _, x, y: (max(x[0], y[0]), max(x[1], y[1])),
    "saturate": _saturate,
    "select": lambda _, condition, x, y: (min(x[0], y[0]), max(x[1], y[1])),
    "lerp": _lerp,
    "exponent": _exponent,
    "mantissa": _mantissa,
}

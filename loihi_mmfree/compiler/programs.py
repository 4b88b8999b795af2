"""The neuron program of every group. The arithmetic they spell out is explained in docs/fixed-point.md."""

from __future__ import annotations

from dataclasses import dataclass

from loihi_mmfree.compiler.passes.split_rows import sums_are_relayed
from loihi_mmfree.errors import DoesNotFitError
from loihi_mmfree.fixedpoint import tables
from loihi_mmfree.fixedpoint.program import Program, ProgramBuilder
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.fixedpoint.requantizer import MULTIPLIER_BITS, Requantizer
from loihi_mmfree.fixedpoint.ternary import CODES_PER_BYTE
from loihi_mmfree.loihi2.hardware import ChipSpec

SIGMOID = "sigmoid"
RSQRT = "rsqrt"

GATE_GUARD_BITS = 4
"""Extra fractional bits of a swish between its two products; it never leaves the neuron."""
SCALED_BITS = 21
"""Width of x * gain before it meets the inverse root, where registers are wide enough for their product."""
ROOT_BITS = 17
"""Width of the inverse root's mantissa, 2**15 included."""
_MOST_HALF_BITS = 15
"""A square has 30 bits at most."""
LEAST_MULTIPLIER_BITS = 8
"""Requantizers keep at least so many, however narrow the registers."""
_ONE = 1 << tables.SIGMOID_FRACTION_BITS


@dataclass(frozen=True)
class Squares:
    """How a group sends the squares of its value to a norm.

    A square of 2b bits is sent as two messages, high and low part, so that the sums of both over the whole
    group stay below 2**23 and the sum of squares is exact: one time step, where summing in two stages takes
    two and has to clip the values harder.

    Parameters
    ----------
    half_bits : int
        b: values are held to +-(2**b - 1), and high and low part have about b bits each.
    shift : int
        Right shift from the value to what is squared.
    """

    half_bits: int
    shift: int


def square_half_bits(columns: int, chip: ChipSpec) -> int:
    """Return the greatest b, at most 15, such that `columns` squares of b-bit magnitudes can be summed exactly.

    Their halves, at most 2**b - 1 each, are messages whose sums fit accumulators, and the sum of the squares
    fits a register. Where relays send on what slices sum up to, the shortest slice fits a message.

    Raises
    ------
    DoesNotFitError
        Not even squares of one bit can be summed.
    """
    largest_sum = (1 << (chip.accumulator_bits.value - 1)) - 1
    message = (1 << (chip.message_bits.value - 1)) - 1
    largest = min(
        largest_sum // columns, message // CODES_PER_BYTE if sums_are_relayed(columns, chip) else message
    )
    most = min(_MOST_HALF_BITS, (largest + 1).bit_length() - 1)
    for bits in range(most, 0, -1):
        if columns * ((1 << bits) - 1) ** 2 < 1 << (chip.register_bits.value - 1):
            return bits
    raise DoesNotFitError(
        f"the squares of {columns} values cannot be summed with accumulators of {chip.accumulator_bits.value}, "
        f"messages of {chip.message_bits.value} and registers of {chip.register_bits.value} bits; give another "
        "system (`chip=FILE`)"
    )


def multiplier_bits(largest: int, chip: ChipSpec) -> int:
    """Return the bits of a multiplier, at most 15, whose product with a sum up to `largest` fits a register."""
    room = ((1 << (chip.register_bits.value - 1)) - 1) // max(largest, 1)
    return max(LEAST_MULTIPLIER_BITS, min(MULTIPLIER_BITS, (room + 1).bit_length() - 1))


def _send_squares(b: ProgramBuilder, value: str, squares: Squares) -> None:
    clipped = b.saturate(b.shift(value, squares.shift), squares.half_bits + 1)
    square = b.mul(clipped, clipped, bits=2 * squares.half_bits + 1)
    high, low = b.split(square, squares.half_bits)
    b.send("square_high", high)
    b.send("square_low", low)


def _sigmoid(b: ProgramBuilder, x: str, frac: int) -> str:
    """Sigmoid in units of 2**-15 of a register with `frac` fractional bits, by odd symmetry and a table."""
    segment = frac - tables.SIGMOID_SEGMENT_BITS
    if segment < 0:
        x, frac, segment = b.shift(x, segment), tables.SIGMOID_SEGMENT_BITS, 0
    last = (1 << (tables.SIGMOID_DOMAIN_BITS + frac)) - 1
    magnitude = b.minimum(b.absolute(x), b.immediate(last))
    upper = _interpolate(b, SIGMOID, magnitude, segment) if segment else b.table(SIGMOID, magnitude, bits=17)
    return b.select(x, upper, b.sub(b.immediate(_ONE), upper, bits=17))


def _interpolate(b: ProgramBuilder, table: str, position: str, segment: int, first: int = 0) -> str:
    """Read a table between entries: `segment` low bits of the position are the weight of the next entry."""
    number, rest = b.split(position, segment)
    index = b.sub(number, b.immediate(first)) if first else number
    at_zero = b.table(table, index, bits=17)
    at_one = b.table(table, b.add(index, b.immediate(1)), bits=17)
    return b.lerp(rest, at_one, at_zero, segment)


def _swish(b: ProgramBuilder, x: str, frac: int) -> str:
    """x * sigmoid(x) with `frac` + 4 fractional bits."""
    product = b.mul(x, _sigmoid(b, x, frac))
    return b.shift(product, tables.SIGMOID_FRACTION_BITS - GATE_GUARD_BITS)


@dataclass(frozen=True)
class Accumulator:
    """An input of a program: the sum of `parts` accumulators, each of which holds a slice of the rows."""

    name: str
    parts: int = 1


def accumulator_inputs(accumulator: Accumulator) -> tuple[str, ...]:
    """Return the names of the inputs that an accumulator is the sum of."""
    if accumulator.parts == 1:
        return (accumulator.name,)
    return tuple(f"{accumulator.name}_{part}" for part in range(accumulator.parts))


def _accumulated(b: ProgramBuilder, accumulator: Accumulator, chip: ChipSpec, bits: int = 0) -> str:
    """Load an accumulator; parts add up in a register, which is as much wider as they may need, or `bits`."""
    width = chip.accumulator_bits.value
    total, *rest = (b.input(name, width) for name in accumulator_inputs(accumulator))
    bits = bits or width + (accumulator.parts - 1).bit_length()
    for part in rest:
        total = b.add(total, part, bits=bits)
    return total


def relay_program(bits: int) -> Program:
    """Pass on what arrives: the sum over one slice of split rows, or a message under way for long."""
    b = ProgramBuilder()
    b.send("out", b.input("value", bits))
    return b.build()


def _requantize(b: ProgramBuilder, accumulator: str, by: Requantizer, bits: int) -> str:
    product = b.mul(accumulator, b.immediate(by.multiplier))
    return b.saturate(b.shift(product, by.shift), bits)


def embedding_program(value: QFormat, squares: Squares, gain_shift: int) -> Program:
    """The first group: pass the row of the table on, and send its squares."""
    b = ProgramBuilder()
    x = b.input("token", value.bits)
    b.send("out", x)
    _send_gained_squares(b, x, squares, gain_shift)
    return b.build()


def _send_gained_squares(b: ProgramBuilder, x: str, squares: Squares, gain_shift: int) -> None:
    """Squares of x * w, with w the gain of the norm that reads them."""
    gained = b.mul(x, b.constant("statistic_gain", MULTIPLIER_BITS + 1))
    _send_squares(b, b.shift(gained, gain_shift), squares)


def residual_program(
    before: QFormat,
    after: QFormat,
    delta: Requantizer,
    squares: Squares,
    gain_shift: int,
    chip: ChipSpec,
    accumulator: Accumulator = Accumulator("delta"),
) -> Program:
    """x' = x + delta, saturated, and the squares the next norm wants."""
    b = ProgramBuilder()
    x = b.shift(b.input("stream", before.bits), before.frac - after.frac)
    change = b.mul(_accumulated(b, accumulator, chip), b.immediate(delta.multiplier))
    total = b.saturate(b.add(x, b.shift(change, delta.shift)), after.bits)
    b.send("out", total)
    _send_gained_squares(b, total, squares, gain_shift)
    return b.build()


def rms_program(half_bits: int, epsilon: int, chip: ChipSpec, parts: int = 1) -> Program:
    """1 / sqrt(sum of squares) as a 16-bit mantissa and an exponent, two messages; 0 and 0 if the sum is 0.

    High and low sums come in `parts`, which never add up to more than an accumulator holds.

    With T = m * 2**e, m in [2**14, 2**16) and e even: 1/sqrt(T) = y * 2**-(22 + e/2), where y is the table's
    2**14 / sqrt(m / 2**16). Sent are y and e/2 + 7. Messages too narrow for a y of 2**15 hold it to one less.
    """
    b = ProgramBuilder()
    summed = chip.accumulator_bits.value
    high = _accumulated(b, Accumulator("sum_high", parts), chip, summed)
    low = _accumulated(b, Accumulator("sum_low", parts), chip, summed)
    wide = summed + _MOST_HALF_BITS + 1
    total = b.add(b.shift(high, -half_bits), low, bits=wide)
    if epsilon:
        total = b.add(total, b.immediate(epsilon), bits=wide)
    bits, segment = tables.RSQRT_MANTISSA_BITS, tables.RSQRT_SEGMENT_BITS
    smallest = b.immediate(1 << (bits - 2))
    position = b.maximum(b.mantissa(total, bits), smallest)
    root = _interpolate(b, RSQRT, position, segment, tables.rsqrt_first_segment())
    if chip.message_bits.value < ROOT_BITS:
        root = b.minimum(root, b.immediate((1 << (chip.message_bits.value - 1)) - 1))
    halved = b.add(b.shift(b.exponent(total, bits), 1), b.immediate(EXPONENT_OFFSET), bits=8)
    present = b.sub(total, b.immediate(1), bits=wide)
    zero = b.immediate(0)
    b.send("mantissa", b.select(present, root, zero))
    b.send("exponent", b.select(present, halved, zero))
    return b.build()


EXPONENT_OFFSET = tables.RSQRT_MANTISSA_BITS // 2 - 1
"""Makes the halved exponent of the smallest sum, 1 = 2**14 * 2**-14, non-negative."""
RSQRT_SCALE_BITS = tables.RSQRT_FRACTION_BITS + tables.RSQRT_MANTISSA_BITS // 2
"""1/sqrt(m * 2**e) = y * 2**-(RSQRT_SCALE_BITS + e/2)."""


@dataclass(frozen=True)
class ScaledPort:
    """One projection input that a Scale group sends: name, format, and where its binary point goes.

    `gain_frac` is the shift k of its per-neuron gains M_n * 2**-k, `sum_frac` and `value_frac` the fractional
    bits of what was squared and of x. What is smaller than `threshold`, in units of the format, is not sent.
    """

    name: str
    format: QFormat
    gain_frac: int
    sum_frac: int
    threshold: int = 0


def scaling_shifts(value: QFormat, port: ScaledPort, chip: ChipSpec) -> tuple[int, int]:
    """Return the right shifts of x * gain, and of that times the root, where the sent exponent is added."""
    total = port.gain_frac + RSQRT_SCALE_BITS + value.frac - port.format.frac - port.sum_frac
    scaled_bits = min(SCALED_BITS, chip.register_bits.value - ROOT_BITS + 1)
    first = max(value.bits + MULTIPLIER_BITS - scaled_bits, 0)
    # The distance left for the second shift is never negative: a small gain takes less in the first.
    first = min(first, total - EXPONENT_OFFSET)
    return first, total - EXPONENT_OFFSET - first


def scale_program(value: QFormat, ports: tuple[ScaledPort, ...], chip: ChipSpec) -> Program:
    """a = x * gain / rms, saturated to the activation format, for every projection that reads this norm."""
    b = ProgramBuilder()
    x = b.input("value", value.bits)
    root = b.input("mantissa", ROOT_BITS)
    exponent = b.input("exponent", 8)
    for port in ports:
        first, second = scaling_shifts(value, port, chip)
        gained = b.shift(b.mul(x, b.constant(f"gain_{port.name}", MULTIPLIER_BITS + 1)), first)
        distance = b.add(exponent, b.immediate(second))
        scaled = b.shift_right_by(b.mul(gained, root), distance)
        sent = b.saturate(scaled, port.format.bits)
        if port.threshold:
            reaches = b.sub(b.absolute(sent), b.immediate(port.threshold))
            sent = b.select(reaches, sent, b.immediate(0))
        b.send(port.name, sent)
    return b.build()


@dataclass(frozen=True)
class MlGruFormats:
    """Formats and requantizers of an MLGRU group; the gate's requantizer is per neuron (constant `gate`)."""

    input: QFormat
    forget: QFormat
    gate: QFormat
    state: QFormat
    output: QFormat
    input_requantizer: Requantizer
    forget_requantizer: Requantizer
    gate_shift: int
    accumulators: tuple[Accumulator, Accumulator, Accumulator] = (
        Accumulator("i"),
        Accumulator("f"),
        Accumulator("g"),
    )


def mlgru_program(formats: MlGruFormats, bounded: bool, squares: Squares, chip: ChipSpec) -> Program:
    """h' = f h + (1 - f) silu(i) with one rounding, and y = g silu(h'); Zhu et al. 2024, eqs. 7 to 12."""
    b = ProgramBuilder()
    i_sum, f_sum, g_sum = formats.accumulators
    i = _requantize(b, _accumulated(b, i_sum, chip), formats.input_requantizer, formats.input.bits)
    f = _requantize(b, _accumulated(b, f_sum, chip), formats.forget_requantizer, formats.forget.bits)
    forget = _sigmoid(b, f, formats.forget.frac)
    if bounded:
        forget = b.lerp(b.constant("lower_bound", 17), b.immediate(_ONE), forget, tables.SIGMOID_FRACTION_BITS)
    swish = _swish(b, i, formats.input.frac)
    candidate = b.saturate(
        b.shift(swish, formats.input.frac + GATE_GUARD_BITS - formats.state.frac), formats.state.bits
    )
    state = b.lerp(forget, b.state("h", formats.state.bits), candidate, tables.SIGMOID_FRACTION_BITS)
    b.store("h", state)
    gate_product = b.mul(_accumulated(b, g_sum, chip), b.constant("gate", MULTIPLIER_BITS + 1))
    gate = b.saturate(b.shift(gate_product, formats.gate_shift), formats.gate.bits)
    _send_gated(b, gate, formats.gate.frac, state, formats.state.frac, formats.output, squares)
    return b.build()


def _send_gated(
    b: ProgramBuilder, gate: str, gate_frac: int, x: str, x_frac: int, output: QFormat, squares: Squares
) -> None:
    """Send gate * silu(x) and its squares."""
    product = b.mul(gate, _swish(b, x, x_frac))
    value = b.saturate(b.shift(product, gate_frac + x_frac + GATE_GUARD_BITS - output.frac), output.bits)
    b.send("out", value)
    _send_squares(b, value, squares)


@dataclass(frozen=True)
class GluFormats:
    """Formats and requantizers of a GLU group."""

    gate: QFormat
    up: QFormat
    output: QFormat
    gate_requantizer: Requantizer
    up_requantizer: Requantizer
    accumulators: tuple[Accumulator, Accumulator] = (Accumulator("gate"), Accumulator("up"))


def glu_program(formats: GluFormats, squares: Squares, chip: ChipSpec) -> Program:
    """z = silu(gate) * up."""
    b = ProgramBuilder()
    gate_sum, up_sum = formats.accumulators
    gate = _requantize(b, _accumulated(b, gate_sum, chip), formats.gate_requantizer, formats.gate.bits)
    up = _requantize(b, _accumulated(b, up_sum, chip), formats.up_requantizer, formats.up.bits)
    _send_gated(b, up, formats.up.frac, gate, formats.gate.frac, formats.output, squares)
    return b.build()

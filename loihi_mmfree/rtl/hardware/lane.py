"""A lane of the vector unit: memories, registers and datapath for one neuron in a cycle."""

from __future__ import annotations

from functools import reduce

from amaranth.hdl import (
    Cat,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    Module,
    Mux,
    ResetSignal,
    Signal,
    signed,
)
from amaranth.lib.memory import Memory

from loihi_mmfree.fixedpoint.operations import OPERATIONS, rule_for
from loihi_mmfree.rtl.hardware.rules import LANE_RULES, LaneRule, Operands, clamps
from loihi_mmfree.rtl.instructions import OPCODE_BITS, OPCODES, Space
from loihi_mmfree.rtl.parameters import STRIP_BEATS, CoreParameters

DISTANCE_BITS = 6
EXPONENT_BITS = 8
LANE_MODULE = "mmfree_lane"


def rules() -> dict[int, LaneRule]:
    """Return the rule of every opcode that computes; raises NotImplementedError for one that has none."""
    return {OPCODES[name]: rule_for(LANE_RULES, name, "a lane of the RTL") for name in OPERATIONS}


def address_bits(depth: int) -> int:
    """Return the bits of an address into so many words; a memory has two at least."""
    return max(1, (depth - 1).bit_length())


def memory(m: Module, name: str, width: int, depth: int, init: list[int] | None = None) -> Memory:
    """Add a memory of signed words."""
    made = Memory(shape=signed(width), depth=max(2, depth), init=init or [])
    m.submodules[name] = made
    return made


class VectorLane(Elaboratable):
    """One lane. Stage 0 addresses, stage 1 prepares, 2 multiplies, 3 adds, 4 shifts, 5 rounds and writes.

    Attributes
    ----------
    sources : three Signals
        Stage 0: register and beat that are read.
    address : Signal
        Stage 0: word of whichever memory is loaded from.
    operation, immediate, space, scalar, active, fresh : Signal
        Stage 1: of the instruction whose operands have been read; `active` if the lane has a neuron, `fresh` if
        the state is that before the first token.
    effect_address : Signal
        Stage 1: where a store or a message goes.
    write, target : Signal
        Stage 5: whether, and which register and beat is written.
    rounds, ceiling, looked_up : Signal
        Stage 5, stage 5, stage 3: what the rule of the instruction there says.
    mask : Signal
        Stage 5: 2^n - 1.
    token_write, token_address, token : Signal
        The host's own way into the messages.
    sum_write, sum_address, sum : Signal
        The product unit's way into the accumulators.
    value, clamped : Signal
        Stage 1: what leaves the lane; whether a saturation changes it.
    """

    def __init__(self, parameters: CoreParameters, refers: bool = False) -> None:
        self.parameters, self.refers = parameters, refers
        widths, depths, size = parameters.widths, parameters.depths, parameters.size
        registers = address_bits(size.registers * STRIP_BEATS)
        words = address_bits(max(depths.messages, depths.accumulators, depths.states, depths.constants))
        self.sources = [Signal(registers, name=f"source_{name}") for name in "abc"]
        self.address, self.effect_address = Signal(words), Signal(words)
        self.operation, self.space = Signal(OPCODE_BITS), Signal(Space)
        self.valid, self.active, self.fresh = Signal(), Signal(), Signal()
        self.immediate = Signal(signed(widths.datapath))
        self.scalar = Signal(signed(widths.datapath))
        self.write, self.target = Signal(), Signal(registers)
        self.rounds, self.ceiling, self.looked_up = Signal(), Signal(), Signal()
        self.mask = Signal(widths.datapath)
        self.token_write, self.token_address = Signal(), Signal(address_bits(depths.messages))
        self.token = Signal(signed(widths.message))
        self.sum_write, self.sum_address = Signal(), Signal(address_bits(depths.accumulators))
        self.sum = Signal(signed(widths.accumulator))
        self.constant_write, self.constant_address = Signal(), Signal(address_bits(depths.constants))
        self.constant = Signal(signed(widths.constant))
        self.value = Signal(signed(widths.datapath))
        self.clamped = Signal()

    @property
    def inputs(self) -> dict[str, Signal]:
        """What comes in, by name."""
        held = {name: each for name, each in vars(self).items() if isinstance(each, Signal)}
        sources = {f"source_{name}": each for name, each in zip("abc", self.sources, strict=True)}
        return {name: each for name, each in (held | sources).items() if name not in self.outputs}

    @property
    def outputs(self) -> dict[str, Signal]:
        """What goes out, by name."""
        return {"value": self.value, "clamped": self.clamped}

    def elaborate(self, _: object) -> Module | Instance:
        """Build it; or refer to it, where its Verilog lies beside."""
        if self.refers:
            return Instance(
                LANE_MODULE,
                i_clk=ClockSignal(),
                i_rst=ResetSignal(),
                **{f"i_{name}": each for name, each in self.inputs.items()},
                **{f"o_{name}": each for name, each in self.outputs.items()},
            )
        m = Module()
        a, b, c, written = self._registers(m)
        operands = self._operands(m, a, b, c)
        m.d.comb += self.value.eq(a)
        m.d.comb += self.clamped.eq(
            self.valid & self.active & (self.operation == OPCODES["saturate"]) & clamps(operands)
        )
        self._datapath(m, operands, written)
        return m

    def _registers(self, m: Module) -> tuple[Signal, ...]:
        """The register file: three copies of it, one for each operand."""
        width = self.parameters.widths.datapath
        written = Signal(signed(width))
        read = []
        for name, source in zip("abc", self.sources, strict=True):
            copy = memory(m, f"registers_{name}", width, self.parameters.size.registers * STRIP_BEATS)
            reading, writing = copy.read_port(), copy.write_port()
            m.d.comb += [
                reading.addr.eq(source),
                writing.addr.eq(self.target),
                writing.data.eq(written),
                writing.en.eq(self.write),
            ]
            read.append(reading.data)
        return (*read, written)

    def _loaded(self, m: Module, value: Signal) -> Signal:
        """The lane's memories: what stage 1 finds in them, and who writes them."""
        depths, widths = self.parameters.depths, self.parameters.widths
        messages = memory(m, "messages", widths.message, depths.messages)
        accumulators = memory(m, "accumulators", widths.accumulator, depths.accumulators)
        states = memory(m, "states", widths.state, depths.states)
        constants = memory(m, "constants", widths.constant, depths.constants)
        reading = {each: each.read_port() for each in (messages, accumulators, states, constants)}
        for port in reading.values():
            m.d.comb += port.addr.eq(self.address)
        effect = self.valid & (self.operation == OPCODES["send"]) & (self.space == Space.MESSAGE)
        store = self.valid & (self.operation == OPCODES["store"])
        for into, enable, address, data in (
            (
                messages,
                effect | self.token_write,
                Mux(self.token_write, self.token_address, self.effect_address),
                Mux(self.token_write, self.token, value),
            ),
            (accumulators, self.sum_write, self.sum_address, self.sum),
            (states, store, self.effect_address, value),
            (constants, self.constant_write, self.constant_address, self.constant),
        ):
            writing = into.write_port()
            m.d.comb += [writing.en.eq(enable), writing.addr.eq(address), writing.data.eq(data)]
        loaded = Signal(signed(widths.datapath))
        with m.Switch(self.operation):
            with m.Case(OPCODES["state"]):
                m.d.comb += loaded.eq(Mux(self.fresh, 0, reading[states].data))
            with m.Case(OPCODES["constant"]):
                m.d.comb += loaded.eq(reading[constants].data)
            with m.Default(), m.Switch(self.space):
                with m.Case(Space.SCALAR):
                    m.d.comb += loaded.eq(self.scalar)
                with m.Case(Space.ACCUMULATOR):
                    m.d.comb += loaded.eq(reading[accumulators].data)
                with m.Default():
                    m.d.comb += loaded.eq(reading[messages].data)
        return loaded

    def _operands(self, m: Module, a: Signal, b: Signal, c: Signal) -> Operands:
        width = self.parameters.widths.datapath
        n, mask, exponent = Signal(DISTANCE_BITS), Signal(width), Signal(signed(EXPONENT_BITS))
        m.d.comb += n.eq(self.immediate)
        # Bit k of the mask is set for k < n.
        m.d.comb += mask.eq(Cat(*(n > place for place in range(width))))
        m.d.comb += exponent.eq(_even_exponent(m, a, n))
        return Operands(a, b, c, self._loaded(m, a), self.immediate, n, mask, exponent)

    def _datapath(self, m: Module, operands: Operands, written: Signal) -> None:
        widths = self.parameters.widths
        wide = signed(widths.datapath)
        base, shifted, total, rounded = (
            Signal(wide, name=name) for name in ("base", "shifted", "total", "rounded")
        )
        x, y = Signal(signed(widths.multiplicand)), Signal(signed(widths.multiplier))
        product = Signal(wide)
        left = Signal(DISTANCE_BITS)
        right = [Signal(DISTANCE_BITS, name=f"right_{stage}") for stage in (1, 2, 3)]
        # Undo what the last instruction left there: an operation that does not say goes in with 0.
        m.d.sync += [base.eq(0), x.eq(0), y.eq(0), left.eq(0), right[0].eq(0)]
        with m.Switch(self.operation):
            for opcode, rule in rules().items():
                with m.Case(opcode):
                    if rule.base:
                        m.d.sync += base.eq(rule.base(operands))
                    if rule.factors:
                        factors = rule.factors(operands)
                        m.d.sync += [x.eq(factors[0]), y.eq(factors[1])]
                    if rule.left:
                        m.d.sync += left.eq(rule.left(operands))
                    if rule.right:
                        m.d.sync += right[0].eq(rule.right(operands))
        entry = self._table(m, operands)
        m.d.sync += [shifted.eq(_shifted_left(base, left)), product.eq(x * y)]
        m.d.sync += right[1].eq(right[0])
        m.d.sync += total.eq(Mux(self.looked_up, entry, shifted + product))
        m.d.sync += right[2].eq(right[1])
        # One place more is kept: the highest bit that is dropped, which is what rounding adds.
        kept = Signal(signed(widths.datapath + 1))
        m.d.sync += kept.eq(Cat(Const(0, 1), total).as_signed() >> right[2])
        m.d.comb += rounded.eq((kept >> 1) + (kept[0] & self.rounds))
        m.d.comb += written.eq(Mux(self.ceiling & (rounded > self.mask), self.mask, rounded))

    def _table(self, m: Module, operands: Operands) -> Signal:
        """The ROM: an entry for the third stage."""
        tables = self.parameters.tables
        rom = memory(m, "tables", self.parameters.widths.table, len(tables), list(tables))
        port = rom.read_port()
        m.d.comb += port.addr.eq(operands.a + operands.literal)
        entry = Signal(signed(self.parameters.widths.table))
        m.d.sync += entry.eq(port.data)
        return entry


def _shifted_left(value: Signal, distance: Signal) -> Signal:
    """A barrel shifter that keeps the width."""
    width = len(value)
    for place, bit in enumerate(distance):
        by = min(1 << place, width)
        value = Mux(bit, Cat(Const(0, by), value)[:width], value)
    return value


def _even_exponent(m: Module, a: Signal, n: Signal) -> Signal:
    """The least even e with a < 2^(n + e); 0 for a = 0."""
    length, excess = Signal(range(len(a) + 1)), Signal(signed(EXPONENT_BITS))
    m.d.comb += length.eq(reduce(lambda found, place: Mux(a[place], place + 1, found), range(len(a)), Const(0)))
    m.d.comb += excess.eq(length - n)
    return Mux(length == 0, 0, excess + excess[0])

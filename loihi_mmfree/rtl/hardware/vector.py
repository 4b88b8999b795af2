"""The vector unit: a sequencer that walks through the groups of a token, and the lanes that it drives."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal, signed
from amaranth.lib.memory import Memory

from loihi_mmfree.rtl.hardware.lane import VectorLane, address_bits, rules
from loihi_mmfree.rtl.instructions import (
    AFTER_BITS,
    END,
    IMMEDIATE_FROM,
    OPCODE_BITS,
    OPCODES,
    REGISTER_BITS,
    SIZE_BITS,
    SPACE_BITS,
    Space,
    immediate_bits,
)
from loihi_mmfree.rtl.parameters import CHUNK_BITS, STRIP_BEATS, CoreParameters

_BEAT_BITS = (STRIP_BEATS - 1).bit_length()
_STAGES = 5


class VectorUnit(Elaboratable):
    """Executes the vector program once for each token.

    Attributes
    ----------
    start, fresh : Signal
        Begin a token; whether it is the first of a sequence, whose states are 0.
    running : Signal
    groups_done : Signal
        How many groups of this token have ended.
    products_done, rows_done : Signal
        Whole products of this token, and rows of the one under way, that lie in the accumulators.
    saturations : Signal
        Values clamped since the core was reset.
    load_enable, load_address, load_data : Signal
        A chunk of an instruction: address is instruction * chunks + chunk.
    activation_write, activation_position, activation_base : Signal
        A message that goes to the product unit; its values are those of the lanes.
    sent, sent_instruction, sent_position : Signal
        A message, whatever its destination, for who watches: the lanes' values, where in the program and where in
        the group.
    """

    def __init__(self, parameters: CoreParameters, refers: bool = False) -> None:
        self.parameters = parameters
        self.lanes = [VectorLane(parameters, refers) for _ in range(parameters.size.lanes)]
        self.word_bits = IMMEDIATE_FROM + immediate_bits(parameters.widths)
        self.chunks = -(-self.word_bits // CHUNK_BITS)
        self.counter_bits = address_bits(parameters.depths.instructions)
        self.start, self.fresh, self.running = Signal(), Signal(), Signal()
        self.groups_done, self.products_done = Signal(AFTER_BITS), Signal(AFTER_BITS)
        self.rows_done = Signal(SIZE_BITS)
        self.saturations = Signal(64)
        self.load_enable = Signal()
        self.load_address = Signal(self.counter_bits + max(1, (self.chunks - 1).bit_length()))
        self.load_data = Signal(CHUNK_BITS)
        self.activation_write = Signal()
        self.activation_base = Signal(SIZE_BITS)
        self.sent, self.sent_instruction = Signal(), Signal(self.counter_bits)
        self.sent_position, self.activation_position = Signal(SIZE_BITS), Signal(SIZE_BITS)

    def elaborate(self, _: object) -> Module:
        """Build it."""
        m = Module()
        for number, lane in enumerate(self.lanes):
            m.submodules[f"lane_{number}"] = lane
        self.next_counter = Signal(self.counter_bits)
        self._fetch(m)
        self._sequence(m)
        self._issue(m)
        self._effects(m)
        self._write_back(m)
        return m

    def _fetch(self, m: Module) -> None:
        """The program, read one instruction ahead."""
        width = self.chunks * CHUNK_BITS
        program = Memory(shape=width, depth=max(2, self.parameters.depths.instructions), init=[])
        m.submodules.program = program
        reading, writing = program.read_port(), program.write_port(granularity=CHUNK_BITS)
        chunk, number = self.load_address[: len(self.load_address) - self.counter_bits], self.load_address
        m.d.comb += [
            reading.addr.eq(self.next_counter),
            writing.addr.eq(number[len(chunk) :]),
            writing.data.eq(Cat(*[self.load_data] * self.chunks)),
            writing.en.eq(Mux(self.load_enable, 1 << chunk, 0)),
        ]
        fields = {}
        place = 0
        for name, bits in (
            ("operation", OPCODE_BITS),
            ("target", REGISTER_BITS),
            ("a", REGISTER_BITS),
            ("b", REGISTER_BITS),
            ("c", REGISTER_BITS),
            ("space", SPACE_BITS),
            ("last", 1),
        ):
            fields[name] = reading.data[place : place + bits]
            place += bits
        self.fields = fields
        self.immediate = reading.data[IMMEDIATE_FROM : self.word_bits]

    def _sequence(self, m: Module) -> None:
        """Which instruction, which strip, which beat."""
        size = self.parameters.size
        self.counter, first = Signal(self.counter_bits), Signal(self.counter_bits)
        self.beat, self.strip = Signal(_BEAT_BITS), Signal(SIZE_BITS)
        self.neurons = Signal(SIZE_BITS)
        wait, drained = Signal(AFTER_BITS), Signal(_BEAT_BITS)
        strip_end = Signal(SIZE_BITS + 1)
        m.d.comb += strip_end.eq((self.strip + 1) * size.strip)
        awaited, ready = Signal(AFTER_BITS), Signal()
        m.d.comb += awaited.eq(wait - 1)
        m.d.comb += ready.eq(
            (wait == 0)
            | (self.products_done > awaited)
            | ((self.products_done == awaited) & (self.rows_done >= strip_end))
        )
        self.issuing = Signal()
        m.d.comb += self.next_counter.eq(self.counter)
        m.d.sync += self.counter.eq(self.next_counter)
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.next_counter.eq(0)
                with m.If(self.start):
                    m.d.sync += self.groups_done.eq(0)
                    m.next = "group"
            with m.State("group"):
                m.d.comb += self.running.eq(1)
                with m.If(self.fields["operation"] == OPCODES[END]):
                    m.next = "idle"
                with m.Else():
                    m.d.comb += self.next_counter.eq(self.counter + 1)
                    m.d.sync += [
                        first.eq(self.counter + 1),
                        self.neurons.eq(self.immediate[:SIZE_BITS]),
                        wait.eq(self.immediate[SIZE_BITS:]),
                        self.strip.eq(0),
                        self.beat.eq(0),
                    ]
                    m.next = "wait"
            with m.State("wait"):
                m.d.comb += self.running.eq(1)
                with m.If(ready):
                    m.next = "issue"
            with m.State("issue"):
                m.d.comb += [self.running.eq(1), self.issuing.eq(1)]
                m.d.sync += self.beat.eq(self.beat + 1)
                with m.If(self.beat == STRIP_BEATS - 1):
                    m.d.comb += self.next_counter.eq(self.counter + 1)
                    with m.If(self.fields["last"]):
                        with m.If(strip_end >= self.neurons):
                            m.next = "drain"
                        with m.Else():
                            m.d.comb += self.next_counter.eq(first)
                            m.d.sync += self.strip.eq(self.strip + 1)
                            m.next = "wait"
            with m.State("drain"):
                # Until what was sent last has arrived wherever it goes.
                m.d.comb += self.running.eq(1)
                m.d.sync += drained.eq(drained + 1)
                with m.If(drained == STRIP_BEATS - 1):
                    m.d.sync += self.groups_done.eq(self.groups_done + 1)
                    m.next = "group"

    def _issue(self, m: Module) -> None:
        """Stage 0: what the lanes read; and stage 1: the instruction, when that has been read."""
        parameters = self.parameters
        position, immediate = Signal(SIZE_BITS), Signal(signed(parameters.widths.datapath))
        m.d.comb += [position.eq(Cat(self.beat, self.strip)), immediate.eq(self.immediate)]
        address = Signal(SIZE_BITS)
        m.d.comb += address.eq(immediate + position)
        self.valid, self.operation, self.space = Signal(), Signal(OPCODE_BITS), Signal(Space)
        self.now_immediate = Signal(signed(parameters.widths.datapath))
        self.position, effect_address = Signal(SIZE_BITS), Signal(SIZE_BITS)
        self.target, self.remaining = Signal(REGISTER_BITS + _BEAT_BITS), Signal(SIZE_BITS)
        self.now_counter = Signal(self.counter_bits)
        done = Signal(SIZE_BITS)
        m.d.comb += done.eq(position * parameters.size.lanes)
        m.d.sync += [
            self.valid.eq(self.issuing),
            self.operation.eq(self.fields["operation"]),
            self.space.eq(self.fields["space"]),
            self.now_immediate.eq(immediate),
            self.position.eq(position),
            effect_address.eq(address),
            self.target.eq(Cat(self.beat, self.fields["target"])),
            self.remaining.eq(Mux(self.neurons > done, self.neurons - done, 0)),
            self.now_counter.eq(self.counter),
        ]
        scalar = self._scalars(m)
        for number, lane in enumerate(self.lanes):
            m.d.comb += [
                *(
                    source.eq(Cat(self.beat, self.fields[name]))
                    for source, name in zip(lane.sources, "abc", strict=True)
                ),
                lane.address.eq(address),
                lane.valid.eq(self.valid),
                lane.operation.eq(self.operation),
                lane.space.eq(self.space),
                lane.immediate.eq(self.now_immediate),
                lane.scalar.eq(scalar),
                lane.active.eq(self.remaining > number),
                lane.fresh.eq(self.fresh),
                lane.effect_address.eq(effect_address),
            ]

    def _scalars(self, m: Module) -> Signal:
        """Sums and broadcast numbers: what an `input` finds there, and how they are written."""
        width, count = self.parameters.widths.datapath, self.parameters.size.scalars
        scalars = Array(Signal(signed(width), name=f"scalar_{number}") for number in range(count))
        index = self.now_immediate[: (count - 1).bit_length()]
        found = Signal(signed(width))
        m.d.comb += found.eq(scalars[index])
        sends = self.valid & (self.operation == OPCODES["send"])
        with m.If(sends & (self.space == Space.SCALAR) & (self.position == 0)):
            m.d.sync += scalars[index].eq(self.lanes[0].value)
        # What all lanes send is added up in one stage, and to the sum in the next.
        tree, adds, opens, into = Signal(signed(width)), Signal(), Signal(), Signal(len(index))
        terms = [Mux(lane.active, lane.value, 0) for lane in self.lanes]
        while len(terms) > 1:
            terms = [one + other for one, other in zip(terms[::2], terms[1::2], strict=True)]
        m.d.sync += [
            tree.eq(terms[0]),
            adds.eq(sends & (self.space == Space.SUM)),
            opens.eq(self.position == 0),
            into.eq(index),
        ]
        with m.If(adds):
            m.d.sync += scalars[into].eq(Mux(opens, 0, scalars[into]) + tree)
        return found

    def _effects(self, m: Module) -> None:
        """Stage 1: what leaves the unit, and what is counted."""
        sends = self.valid & (self.operation == OPCODES["send"])
        m.d.comb += [
            self.activation_write.eq(sends & (self.space == Space.ACTIVATION)),
            self.activation_base.eq(self.now_immediate),
            self.activation_position.eq(self.position),
            self.sent.eq(sends),
            self.sent_instruction.eq(self.now_counter),
            self.sent_position.eq(self.position),
        ]
        clamped = Signal(range(len(self.lanes) + 1))
        m.d.sync += clamped.eq(sum(lane.clamped for lane in self.lanes))
        m.d.sync += self.saturations.eq(self.saturations + clamped)

    def _write_back(self, m: Module) -> None:
        """What goes along with an instruction until its result is written."""
        width, by_opcode = self.parameters.widths.datapath, rules()
        flags = {name: Signal(name=name) for name in ("writes", "rounds", "ceiling", "looks_up")}
        with m.Switch(self.operation):
            for opcode, rule in by_opcode.items():
                with m.Case(opcode):
                    m.d.comb += [
                        flags["writes"].eq(self.valid & (not rule.effect)),
                        flags["rounds"].eq(rule.rounds),
                        flags["ceiling"].eq(rule.ceiling),
                        flags["looks_up"].eq(rule.looks_up),
                    ]
        distance = Signal(6)
        m.d.comb += distance.eq(self.now_immediate)
        stages = [Cat(*flags.values(), self.target, distance)]
        for number in range(2, _STAGES + 1):
            following = Signal(len(stages[0]), name=f"stage_{number}")
            m.d.sync += following.eq(stages[-1])
            stages.append(following)
        last = stages[-1]
        at_n = Signal(6)
        mask = Signal(width)
        m.d.comb += at_n.eq(last[len(flags) + len(self.target) :])
        m.d.comb += mask.eq(Cat(*(at_n > place for place in range(width))))
        for lane in self.lanes:
            m.d.comb += [
                lane.write.eq(last[0]),
                lane.rounds.eq(last[1]),
                lane.ceiling.eq(last[2]),
                lane.looked_up.eq(stages[2][3]),
                lane.target.eq(last[len(flags) : len(flags) + len(self.target)]),
                lane.mask.eq(mask),
            ]

"""The product unit: ternary weights as they stream in, times activations, through an adder tree."""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, signed
from amaranth.lib.memory import Memory

from loihi_mmfree.rtl.hardware.lane import address_bits
from loihi_mmfree.rtl.instructions import (
    AFTER_BITS,
    BASE_BITS,
    PRODUCT_BITS,
    ROWS_BITS,
    WORDS_BITS,
)
from loihi_mmfree.rtl.parameters import CHUNK_BITS, CODE_BITS, TREE_LEVELS_A_STAGE, CoreParameters


class ProductUnit(Elaboratable):
    """Executes the product program once for each token.

    A beat of the weight stream is multiplied with a word of activations; the beats of a row add up. Where weights
    do not come, nothing goes in; where logits are not taken, all of it stands.

    Attributes
    ----------
    start, running : Signal
        Begin a token; whether a row of it is still to come out.
    count : Signal
        Number of products.
    groups_done : Signal
        Groups of the vector unit that have ended in this token.
    products_done, rows_done : Signal
        What has come out in this token: whole products, and rows of the one under way.
    weights, weights_valid, weights_ready : Signal
    write, write_position, write_base, values : Signal
        Messages that come from the vector unit, a value for each lane.
    sum_write, sum_row, sum_base, sum : Signal
        A row for the accumulators.
    logits_valid, logits_ready : Signal
        A row that leaves the core, as `sum`.
    load_enable, load_address, load_data : Signal
        A chunk of an instruction.
    """

    def __init__(self, parameters: CoreParameters) -> None:
        self.parameters = parameters
        size, widths = parameters.size, parameters.widths
        self.chunks = -(-PRODUCT_BITS // CHUNK_BITS)
        self.counter_bits = address_bits(parameters.depths.products)
        self.start, self.running, self.count = Signal(), Signal(), Signal(AFTER_BITS)
        self.groups_done, self.products_done = Signal(AFTER_BITS), Signal(AFTER_BITS)
        self.rows_done = Signal(ROWS_BITS)
        self.weights = Signal(CODE_BITS * size.weights_per_cycle)
        self.weights_valid, self.weights_ready = Signal(), Signal()
        self.write, self.write_position, self.write_base = Signal(), Signal(BASE_BITS), Signal(BASE_BITS)
        self.values = [Signal(signed(widths.activation), name=f"value_{number}") for number in range(size.lanes)]
        self.sum_write, self.sum_row, self.sum_base = Signal(), Signal(ROWS_BITS), Signal(BASE_BITS)
        self.sum = Signal(signed(widths.accumulator))
        self.logits_valid, self.logits_ready, self.logits_last = Signal(), Signal(), Signal()
        self.load_enable = Signal()
        self.load_address = Signal(self.counter_bits + max(1, (self.chunks - 1).bit_length()))
        self.load_data = Signal(CHUNK_BITS)

    def elaborate(self, _: object) -> Module:
        """Build it."""
        m = Module()
        self.next_counter = Signal(self.counter_bits)
        self.moves = Signal()
        m.d.comb += self.moves.eq(~self.logits_valid | self.logits_ready)
        self._fetch(m)
        self._sequence(m)
        words = self._activations(m)
        self._accumulate(m, *self._tree(m, words))
        return m

    def _fetch(self, m: Module) -> None:
        """The program, read one instruction ahead."""
        program = Memory(shape=self.chunks * CHUNK_BITS, depth=max(2, self.parameters.depths.products), init=[])
        m.submodules.program = program
        reading, writing = program.read_port(), program.write_port(granularity=CHUNK_BITS)
        chunk = self.load_address[: len(self.load_address) - self.counter_bits]
        m.d.comb += [
            reading.addr.eq(self.next_counter),
            writing.addr.eq(self.load_address[len(chunk) :]),
            writing.data.eq(Cat(*[self.load_data] * self.chunks)),
            writing.en.eq(Mux(self.load_enable, 1 << chunk, 0)),
        ]
        self.fields, place = {}, 0
        for name, bits in (
            ("rows", ROWS_BITS),
            ("words", WORDS_BITS),
            ("source", BASE_BITS),
            ("target", BASE_BITS),
            ("after", AFTER_BITS),
            ("logits", 1),
        ):
            self.fields[name] = reading.data[place : place + bits]
            place += bits

    def _sequence(self, m: Module) -> None:
        """Which product, which row, which word of it; and what goes into the pipeline."""
        self.counter = Signal(AFTER_BITS)
        self.row, self.word = Signal(ROWS_BITS), Signal(WORDS_BITS)
        self.takes = Signal()
        last_word, last_row = Signal(), Signal()
        m.d.comb += [
            last_word.eq(self.word + 1 == self.fields["words"]),
            last_row.eq(self.row + 1 == self.fields["rows"]),
            self.next_counter.eq(self.counter),
            self.running.eq(self.products_done != self.count),
        ]
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.next_counter.eq(0)
                with m.If(self.start):
                    m.d.sync += [self.counter.eq(0), self.row.eq(0), self.word.eq(0)]
                    m.next = "wait"
            with m.State("wait"):
                with m.If(self.counter == self.count):
                    m.next = "idle"
                with m.Elif(self.groups_done >= self.fields["after"]):
                    m.next = "run"
            with m.State("run"):
                m.d.comb += self.weights_ready.eq(self.moves)
                m.d.comb += self.takes.eq(self.moves & self.weights_valid)
                with m.If(self.takes):
                    m.d.sync += self.word.eq(self.word + 1)
                    with m.If(last_word):
                        m.d.sync += [self.word.eq(0), self.row.eq(self.row + 1)]
                        with m.If(last_row):
                            m.d.comb += self.next_counter.eq(self.counter + 1)
                            m.d.sync += [self.row.eq(0), self.counter.eq(self.counter + 1)]
                            m.next = "wait"
        # What goes along with a word: whether it opens and closes its row, and where that row goes.
        self.label = Cat(
            self.takes,
            self.word == 0,
            last_word,
            last_row,
            self.fields["logits"],
            self.fields["target"],
            self.row,
        )

    def _activations(self, m: Module) -> list[Signal]:
        """The activations that a word of weights meets, one stage later."""
        size, width = self.parameters.size, self.parameters.widths.activation
        address = Signal(BASE_BITS)
        m.d.comb += address.eq(self.fields["source"] + self.word)
        bank_bits = (size.banks - 1).bit_length()
        found: list[Signal] = []
        for number in range(size.banks):
            bank = Memory(shape=size.lanes * width, depth=max(2, self.parameters.depths.activations), init=[])
            m.submodules[f"activations_{number}"] = bank
            reading, writing = bank.read_port(), bank.write_port()
            m.d.comb += [
                reading.addr.eq(address),
                reading.en.eq(self.moves),
                writing.addr.eq(self.write_base + (self.write_position >> bank_bits)),
                writing.data.eq(Cat(*self.values)),
                writing.en.eq(self.write & (self.write_position[:bank_bits] == number)),
            ]
            found += [reading.data[at * width : (at + 1) * width].as_signed() for at in range(size.lanes)]
        return found

    def _tree(self, m: Module, activations: list[Signal]) -> tuple[Signal, Signal]:
        """Weights times activations, added up in pairs."""
        label, codes = Signal(len(self.label), name="label_0"), Signal(len(self.weights))
        with m.If(self.moves):
            m.d.sync += [label.eq(self.label), codes.eq(self.weights)]
        width, number = self.parameters.widths.activation + 1, 0
        terms = []
        for place, activation in enumerate(activations):
            # A code is the weight + 1: 0 takes away, 1 is nothing, 2 adds.
            code = codes[CODE_BITS * place : CODE_BITS * (place + 1)]
            terms.append(Mux(code[1], activation, Mux(code[0], 0, -activation)))
        while len(terms) > 1:
            number += 1
            for _ in range(TREE_LEVELS_A_STAGE):
                if len(terms) > 1:
                    terms = [one + other for one, other in zip(terms[::2], terms[1::2], strict=True)]
                    width += 1
            kept = [Signal(signed(width), name=f"sum_{number}_{at}") for at in range(len(terms))]
            following = Signal(len(label), name=f"label_{number}")
            with m.If(self.moves):
                m.d.sync += [each.eq(term) for each, term in zip(kept, terms, strict=True)]
                m.d.sync += following.eq(label)
            terms, label = list(kept), following
        return terms[0], label

    def _accumulate(self, m: Module, term: Signal, label: Signal) -> None:
        """The sum of a row, and where it goes."""
        valid, opens, closes, last, logits = (label[place] for place in range(5))
        target, row = label[5 : 5 + BASE_BITS], label[5 + BASE_BITS :]
        running, total = Signal(len(self.sum)), Signal(signed(len(self.sum)))
        m.d.comb += total.eq(Mux(opens, 0, running) + term)
        ended, done = Signal(), Signal()
        logit = Signal()
        with m.If(self.moves):
            with m.If(valid):
                m.d.sync += running.eq(total)
            m.d.sync += [
                ended.eq(valid & closes),
                logit.eq(logits),
                done.eq(last),
                self.sum.eq(total),
                self.sum_base.eq(target),
                self.sum_row.eq(row),
            ]
        leaves = Signal()
        m.d.comb += [
            self.logits_valid.eq(ended & logit),
            self.logits_last.eq(done),
            self.sum_write.eq(ended & ~logit),
            leaves.eq(ended & self.moves),
        ]
        with m.If(self.start):
            m.d.sync += [self.products_done.eq(0), self.rows_done.eq(0)]
        with m.Elif(leaves):
            m.d.sync += self.rows_done.eq(self.rows_done + 1)
            with m.If(done):
                m.d.sync += [self.rows_done.eq(0), self.products_done.eq(self.products_done + 1)]

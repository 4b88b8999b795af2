"""The core: vector unit, product unit, and the four streams and the command port that connect it."""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Signal, signed

from loihi_mmfree.rtl.hardware.lane import address_bits
from loihi_mmfree.rtl.hardware.products import ProductUnit
from loihi_mmfree.rtl.hardware.vector import VectorUnit
from loihi_mmfree.rtl.instructions import LOAD_ADDRESS_BITS, LOAD_TARGET_BITS, CoreSetting, LoadTarget
from loihi_mmfree.rtl.parameters import CHUNK_BITS, CODE_BITS, CoreParameters

LOGIT_BITS = 32
BYTE = 8


def token_bits(parameters: CoreParameters) -> int:
    """Return the bits of one value in the token stream: whole bytes."""
    return -(-parameters.widths.message // BYTE) * BYTE


class MmfreeCore(Elaboratable):
    """Reads a row of the embedding for each token and gives the logits; see docs/rtl.md for its ports."""

    def __init__(self, parameters: CoreParameters, refers: bool = False) -> None:
        self.parameters, self.refers = parameters, refers
        size, widths = parameters.size, parameters.widths
        self.command_valid = Signal()
        self.command_address, self.command_data = Signal(LOAD_TARGET_BITS + LOAD_ADDRESS_BITS), Signal(CHUNK_BITS)
        self.token_valid, self.token_ready, self.token_fresh = Signal(), Signal(), Signal()
        self.token_data = Signal(token_bits(parameters) * size.lanes)
        self.weights_valid, self.weights_ready = Signal(), Signal()
        self.weights_data = Signal(CODE_BITS * size.weights_per_cycle)
        self.logits_valid, self.logits_ready, self.logits_last = Signal(), Signal(), Signal()
        self.logits_data = Signal(signed(LOGIT_BITS))
        self.busy, self.cycles, self.saturations = Signal(), Signal(64), Signal(64)
        counter = address_bits(parameters.depths.instructions)
        self.sent, self.sent_instruction, self.sent_position = Signal(), Signal(counter), Signal(20)
        self.sent_data = Signal(widths.message * size.lanes)
        self.summed, self.summed_product, self.summed_row = Signal(), Signal(16), Signal(20)

    @property
    def ports(self) -> dict[str, Signal]:
        """The signals that leave the core, by the names that they have in Verilog."""
        return {
            "command_valid": self.command_valid,
            "command_address": self.command_address,
            "command_data": self.command_data,
            "s_axis_token_tvalid": self.token_valid,
            "s_axis_token_tready": self.token_ready,
            "s_axis_token_tdata": self.token_data,
            "s_axis_token_tuser": self.token_fresh,
            "s_axis_weights_tvalid": self.weights_valid,
            "s_axis_weights_tready": self.weights_ready,
            "s_axis_weights_tdata": self.weights_data,
            "m_axis_logits_tvalid": self.logits_valid,
            "m_axis_logits_tready": self.logits_ready,
            "m_axis_logits_tdata": self.logits_data,
            "m_axis_logits_tlast": self.logits_last,
            "busy": self.busy,
            "cycles": self.cycles,
            "saturations": self.saturations,
            "watch_sent": self.sent,
            "watch_sent_instruction": self.sent_instruction,
            "watch_sent_position": self.sent_position,
            "watch_sent_data": self.sent_data,
            "watch_summed": self.summed,
            "watch_summed_product": self.summed_product,
            "watch_summed_row": self.summed_row,
        }

    def elaborate(self, _: object) -> Module:
        """Build it."""
        m = Module()
        m.submodules.vector = vector = VectorUnit(self.parameters, self.refers)
        m.submodules.products = products = ProductUnit(self.parameters)
        lane_bits = (len(vector.lanes) - 1).bit_length()
        self._messages(m, vector, products, lane_bits)
        self._commands(m, vector, products, lane_bits)
        self._token(m, vector, products)
        self._watch(m, vector, products)
        return m

    def _messages(self, m: Module, vector: VectorUnit, products: ProductUnit, lane_bits: int) -> None:
        """What the two units send each other."""
        m.d.comb += [
            products.groups_done.eq(vector.groups_done),
            vector.products_done.eq(products.products_done),
            vector.rows_done.eq(products.rows_done),
            products.write.eq(vector.activation_write),
            products.write_base.eq(vector.activation_base),
            products.write_position.eq(vector.activation_position),
            products.weights.eq(self.weights_data),
            products.weights_valid.eq(self.weights_valid),
            self.weights_ready.eq(products.weights_ready),
            self.logits_valid.eq(products.logits_valid),
            self.logits_last.eq(products.logits_last),
            self.logits_data.eq(products.sum),
            products.logits_ready.eq(self.logits_ready),
        ]
        m.d.comb += [value.eq(lane.value) for value, lane in zip(products.values, vector.lanes, strict=True)]
        for number, lane in enumerate(vector.lanes):
            m.d.comb += [
                lane.sum_write.eq(products.sum_write & (products.sum_row[:lane_bits] == number)),
                lane.sum_address.eq(products.sum_base + (products.sum_row >> lane_bits)),
                lane.sum.eq(products.sum),
            ]

    def _commands(self, m: Module, vector: VectorUnit, products: ProductUnit, lane_bits: int) -> None:
        """The command port: programs, constants and settings."""
        self.token_words = Signal(20)
        address, target = self.command_address[:LOAD_ADDRESS_BITS], self.command_address[LOAD_ADDRESS_BITS:]
        m.d.comb += [
            vector.load_enable.eq(self.command_valid & (target == LoadTarget.INSTRUCTIONS)),
            vector.load_address.eq(address),
            vector.load_data.eq(self.command_data),
            products.load_enable.eq(self.command_valid & (target == LoadTarget.PRODUCTS)),
            products.load_address.eq(address),
            products.load_data.eq(self.command_data),
        ]
        for number, lane in enumerate(vector.lanes):
            m.d.comb += [
                lane.constant_write.eq(
                    self.command_valid & (target == LoadTarget.CONSTANTS) & (address[:lane_bits] == number)
                ),
                lane.constant_address.eq(address >> lane_bits),
                lane.constant.eq(self.command_data),
            ]
        with m.If(self.command_valid & (target == LoadTarget.SETTINGS)), m.Switch(address):
            with m.Case(CoreSetting.TOKEN_WORDS):
                m.d.sync += self.token_words.eq(self.command_data)
            with m.Case(CoreSetting.PRODUCTS):
                m.d.sync += products.count.eq(self.command_data)

    def _token(self, m: Module, vector: VectorUnit, products: ProductUnit) -> None:
        """A token: its row comes in, both programs run, and the next one may come."""
        word, started = Signal(20), Signal()
        width, bits = self.parameters.widths.message, token_bits(self.parameters)
        takes = Signal()
        m.d.comb += [takes.eq(self.token_valid & self.token_ready), vector.start.eq(started)]
        m.d.comb += products.start.eq(started)
        for number, lane in enumerate(vector.lanes):
            m.d.comb += [
                lane.token_write.eq(takes),
                lane.token_address.eq(word),
                lane.token.eq(self.token_data[number * bits : number * bits + width]),
            ]
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.token_ready.eq(1)
                m.d.comb += self.busy.eq(word != 0)
                with m.If(takes):
                    m.d.sync += word.eq(word + 1)
                    with m.If(word == 0):
                        m.d.sync += [vector.fresh.eq(self.token_fresh), self.cycles.eq(1)]
                    with m.Else():
                        m.d.sync += self.cycles.eq(self.cycles + 1)
                    with m.If(word + 1 == self.token_words):
                        m.d.sync += word.eq(0)
                        m.next = "start"
                with m.Elif(word != 0):
                    m.d.sync += self.cycles.eq(self.cycles + 1)
            with m.State("start"):
                m.d.comb += [self.busy.eq(1), started.eq(1)]
                m.d.sync += self.cycles.eq(self.cycles + 1)
                m.next = "run"
            with m.State("run"):
                m.d.comb += self.busy.eq(1)
                with m.If(~vector.running & ~products.running):
                    m.next = "idle"
                with m.Else():
                    m.d.sync += self.cycles.eq(self.cycles + 1)

    def _watch(self, m: Module, vector: VectorUnit, products: ProductUnit) -> None:
        """What simulations look at; nothing reads it on a board."""
        width = self.parameters.widths.message
        m.d.comb += [
            self.saturations.eq(vector.saturations),
            self.sent.eq(vector.sent),
            self.sent_instruction.eq(vector.sent_instruction),
            self.sent_position.eq(vector.sent_position),
            self.sent_data.eq(Cat(*(lane.value[:width] for lane in vector.lanes))),
            self.summed.eq(products.sum_write),
            self.summed_product.eq(products.products_done),
            self.summed_row.eq(products.sum_row),
        ]

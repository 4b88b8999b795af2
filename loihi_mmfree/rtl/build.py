"""A network as what a core holds and is fed: programs, constants, weights, and the parameters that it needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.compiler.bounds import propagate
from loihi_mmfree.compiler.passes.narrow_registers import bits_of
from loihi_mmfree.fixedpoint.operations import OPERATIONS, Named
from loihi_mmfree.fixedpoint.program import Instruction
from loihi_mmfree.fixedpoint.ternary import pack_ternary, unpack_ternary
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.rtl.instructions import END, ProductInstruction, Space, VectorInstruction, group
from loihi_mmfree.rtl.parameters import CoreParameters, Depths, Size, Widths
from loihi_mmfree.rtl.registers import assemble, instructions_for
from loihi_mmfree.rtl.schedule import CoreSchedule, Group, Product, schedule, words_of


@dataclass(frozen=True)
class CorePrograms:
    """What a core of some size does with a network.

    Parameters
    ----------
    schedule : CoreSchedule
    instructions : tuple of VectorInstruction
    products : tuple of ProductInstruction
    constants : int64 array [words * lanes]
    tables : tuple of int
        Entries of all tables, one behind the other.
    state_words : int
        Of a value for each lane.
    sends : mapping number of an instruction -> Source
        What each `send` sends, for who watches.
    """

    schedule: CoreSchedule
    instructions: tuple[VectorInstruction, ...]
    products: tuple[ProductInstruction, ...]
    constants: NDArray[np.int64]
    tables: tuple[int, ...]
    state_words: int
    sends: Mapping[int, Source]

    @property
    def token_words(self) -> int:
        """Beats of the token stream for one token."""
        return -(-self.schedule.tokens.size // self.schedule.size.lanes)

    @property
    def weight_words(self) -> int:
        """Beats of the weight stream for one token."""
        return sum(each.rows * each.words for each in self.products)

    def weights(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the weight stream of each product in turn, uint8 [rows * words, weights_per_cycle / 4]."""
        for product in self.schedule.products:
            yield _stream(product, self.schedule.graph, self.schedule.size.weights_per_cycle)


@dataclass(frozen=True)
class CoreImage(CorePrograms):
    """The same for a core whose every parameter is known.

    Parameters
    ----------
    parameters : CoreParameters
        At least those that the network needs.
    """

    parameters: CoreParameters


def compile_programs(graph: Graph, size: Size) -> CorePrograms:
    """Compile a lowered graph for a core.

    Parameters
    ----------
    graph : Graph
        Lowered.
    size : Size

    Raises
    ------
    UnsupportedModelError
        The network has a node, or a connection, that the core has no rule for.
    DoesNotFitError
        It needs more registers or scalars than the core has.
    """
    return _Building(schedule(graph, size)).programs()


def build(graph: Graph, size: Size) -> CoreImage:
    """Compile a lowered graph, and let the proof say how wide its core is; raises what `compile_programs` does."""
    programs = compile_programs(graph, size)
    parameters = CoreParameters(size, _widths(programs), _depths(programs), programs.tables)
    return CoreImage(**vars(programs), parameters=parameters)


class _Building:
    def __init__(self, planned: CoreSchedule) -> None:
        self.schedule, self.size, self.graph = planned, planned.size, planned.graph
        self.instructions: list[VectorInstruction] = []
        self.sends: dict[int, Source] = {}
        self.states: dict[tuple[str, str], int] = {}
        self.constants: dict[str, int] = {}
        self.parts: list[NDArray[np.int64]] = []
        self.tables: dict[str, int] = {}
        self.entries: list[int] = []
        self.state_words = self.constant_words = 0

    def programs(self) -> CorePrograms:
        """Put everything together."""
        for number, each in enumerate(self.schedule.groups):
            self._group(number, each)
        self.instructions.append(VectorInstruction(END))
        return CorePrograms(
            self.schedule,
            tuple(self.instructions),
            tuple(self._product(each) for each in self.schedule.products),
            np.concatenate([*self.parts, np.zeros(0, dtype=np.int64)]),
            tuple(self.entries),
            self.state_words,
            self.sends,
        )

    def _group(self, number: int, each: Group) -> None:
        node = each.node
        ports = "" if len(each.ports) == len(node.outputs) else f" {', '.join(sorted(each.ports))}"
        self.instructions.append(group(node.size, each.wait, f"group {number}: {node.name}{ports}"))
        inputs = dict(zip((port.name for port in node.program.inputs), node.inputs, strict=True))

        def place(instruction: Instruction) -> Iterable[VectorInstruction]:
            return self._placed(node, inputs, instruction)

        made = assemble(instructions_for(node.program, each.ports), place, self.size.registers, node.name)
        sent = {port: node.out(port) for port in node.outputs}
        for at, instruction in enumerate(made, len(self.instructions)):
            if instruction.operation == "send":
                self.sends[at] = sent[instruction.note.split()[1]]
        self.instructions += made

    def _placed(
        self, node: NeuronGroup, inputs: Mapping[str, Source], each: Instruction
    ) -> Iterable[VectorInstruction]:
        """What becomes of one instruction of a program."""
        operation = OPERATIONS[each.operation]
        note = " ".join((each.operation, *each.operands))
        name = each.operands[0] if operation.named else ""
        match operation.named:
            case None:
                yield VectorInstruction(each.operation, immediate=each.immediate, note=note)
            case Named.INPUT:
                found = self.schedule.located(inputs[name])
                space = Space.SCALAR if found.space is Space.SUM else found.space
                yield VectorInstruction(each.operation, space=space, immediate=found.place, note=note)
            case Named.STATE:
                yield VectorInstruction(each.operation, immediate=self._state(node, name), note=note)
            case Named.CONSTANT:
                yield self._constant(node, name, note)
            case Named.TABLE:
                yield VectorInstruction(each.operation, immediate=self._table(node, name), note=note)
            case Named.OUTPUT:
                for to in (Space.MESSAGE, Space.ACTIVATION, Space.SCALAR, Space.SUM):
                    place = self.schedule.messages.get((node.out(name), to))
                    if place is not None:
                        yield VectorInstruction(each.operation, space=to, immediate=place, note=note)

    def _state(self, node: NeuronGroup, name: str) -> int:
        if (node.name, name) not in self.states:
            self.states[node.name, name] = self.state_words
            self.state_words += words_of(node.size, self.size)
        return self.states[node.name, name]

    def _constant(self, node: NeuronGroup, name: str, note: str) -> VectorInstruction:
        """A load; or, where all neurons share one value, that value."""
        key = dict(node.constants)[name]
        values = self.graph.tensors[key].astype(np.int64)
        if values.size == 1:
            return VectorInstruction("immediate", immediate=int(values[0]), note=note)
        if key not in self.constants:
            self.constants[key] = self.constant_words
            words = words_of(node.size, self.size)
            self.parts.append(np.pad(values, (0, words * self.size.lanes - node.size)))
            self.constant_words += words
        return VectorInstruction("constant", immediate=self.constants[key], note=note)

    def _table(self, node: NeuronGroup, name: str) -> int:
        key = dict(node.tables)[name]
        if key not in self.tables:
            self.tables[key] = len(self.entries)
            self.entries += self.graph.tensors[key].tolist()
        return self.tables[key]

    def _product(self, each: Product) -> ProductInstruction:
        return ProductInstruction(
            rows=each.synapse.rows,
            words=each.words(self.size.weights_per_cycle),
            source=self.schedule.messages[each.source, Space.ACTIVATION]
            + each.synapse.first_column // self.size.weights_per_cycle,
            target=0 if each.logits else self.schedule.messages[each.synapse.out(), Space.ACCUMULATOR],
            after=each.after,
            logits=each.logits,
            note=each.synapse.name,
        )


def _depths(programs: CorePrograms) -> Depths:
    rooms = programs.schedule.rooms
    return Depths(
        instructions=_power(len(programs.instructions)),
        products=_power(len(programs.products)),
        messages=_power(rooms[Space.MESSAGE]),
        accumulators=_power(rooms[Space.ACCUMULATOR]),
        states=_power(programs.state_words),
        constants=_power(len(programs.constants) // programs.schedule.size.lanes),
        activations=_power(rooms[Space.ACTIVATION]),
    )


def _widths(programs: CorePrograms) -> Widths:
    planned = programs.schedule
    groups = {each.node.name: each.node for each in planned.groups}.values()
    read = {product.source for product in planned.products}
    ports = [(node.out(port.name), port.bits) for node in groups for port in node.program.outputs]
    needs = [need for node in groups for need in _needs(node.program.instructions)]
    loaded = [node.program.loaded(Named.CONSTANT).values() for node in groups]
    host = [
        port.bits
        for node in groups
        for port, source in zip(node.program.inputs, node.inputs, strict=True)
        if source == planned.tokens.out()
    ]
    sums = [
        bits_of(answer[0]["out"])
        for node, _, answer in propagate(planned.graph)
        if isinstance(node, TernarySynapse)
    ]
    return Widths(
        datapath=max(need[0] for need in needs),
        multiplicand=max(need[1] for need in needs),
        multiplier=max(need[2] for need in needs),
        message=max([*host, *(bits for _, bits in ports)]),
        activation=max(bits for source, bits in ports if source in read),
        accumulator=max(sums),
        state=max((state.bits for node in groups for state in node.program.states), default=2),
        constant=max((bits for each in loaded for bits in each), default=2),
        table=max((abs(entry).bit_length() + 1 for entry in programs.tables), default=2),
    )


def _needs(instructions: tuple[Instruction, ...]) -> Iterator[tuple[int, int, int]]:
    """What each instruction needs of the datapath and of both factors, bits."""
    bits = {each.target: each.bits for each in instructions}
    for each in instructions:
        read = [bits[name] for name in each.registers]
        if each.operation == "mul":
            yield each.bits, max(read), min(read)
        elif each.operation == "lerp":
            ends = max(read[1:])
            yield max(each.bits, ends + each.immediate), ends + 1, read[0]
        else:
            yield max([each.bits, *read]), 2, 2


def _power(words: int) -> int:
    """The next power of two: networks of about the same size share a core."""
    return 1 << max(1, (words - 1).bit_length())


def _stream(product: Product, graph: Graph, weights_per_cycle: int) -> NDArray[np.uint8]:
    """The weights of a product as they stream: rows of whole words, zeros where a row has none."""
    synapse, words = product.synapse, product.words(weights_per_cycle)
    codes = unpack_ternary(graph.tensors[synapse.codes], synapse.columns)
    before = product.padding(weights_per_cycle)
    behind = words * weights_per_cycle - before - synapse.columns
    return pack_ternary(np.pad(codes, ((0, 0), (before, behind)))).reshape(synapse.rows * words, -1)

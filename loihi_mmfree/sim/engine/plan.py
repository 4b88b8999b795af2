"""From a lowered graph to the tables that `kernels.runtime.network` walks through. Imports no numba."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.errors import UsageError
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import no_counts
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.part import Part
from loihi_mmfree.ir.synapses import Broadcast, Delay, SumSynapse, TernarySynapse
from loihi_mmfree.sim.engine.buffers import Data, Memory, Plan, Rows, Slot
from loihi_mmfree.sim.engine.kernels.conventions import (
    LINKS,
    MESSAGE_BITS,
    NODE,
    STEP_WIDTH,
    SUM_BITS,
    TILE_ROWS,
    Link,
    Step,
    digits_for,
    matrix_planes_words,
    sum_codes_words,
    sum_tables_words,
    vector_planes_bytes,
)
from loihi_mmfree.sim.engine.kernels.programs.assemble import WIDTH, Assembled, assemble
from loihi_mmfree.sim.engine.kernels.programs.structure import Structure

LARGEST_SUM = 2**31
"""Kernels add up in 32 bits, which no accumulator exceeds."""


Slice = tuple[int, int]
"""First column and number of columns of a source."""


@dataclass(frozen=True)
class Split:
    """Where the digits of a slice lie, how many a value has, and which phase writes them.

    With `sums`, many vectors are written as sums to look up and not as digits.
    """

    planes: int
    matrices: int
    totals: int
    digits: int
    sums: bool
    final: bool
    phase: int


class NotPlannedError(UsageError):
    """The graph is of a kind that the kernels do not know: the NumPy path has to run it."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the compiled kernels cannot run this network: {reason}; use `kernels='numpy'`")


def make_plan(
    part: Part, tokens: int, threads: int, strict: bool, record: bool = False, sums: bool = False
) -> Plan:
    """Plan a part of a network for up to `tokens` tokens at a time.

    With `sums`, products with many vectors are looked up where the activations' width allows it.

    Raises
    ------
    NotPlannedError
        Something in it is beyond the kernels.
    """
    planner = _Planner(part, tokens, threads, strict, record, sums)
    planner.add_inputs()
    for position, node in enumerate(part.nodes):
        planner.add(node, position)
    return planner.plan()


class _Planner:
    """The plan so far. A phase is what lies between two barriers."""

    def __init__(self, part: Part, tokens: int, threads: int, strict: bool, record: bool, sums: bool) -> None:
        self.part, self.graph, self.sums = part, part.graph, sums
        self.tokens, self.threads, self.strict, self.record = tokens, threads, strict, record
        self.phase = 0
        self.steps, self.names = Rows(STEP_WIDTH), list[str]()
        self.code, self.links = Rows(WIDTH), Rows(2)
        self.structures: list[tuple[int, Structure]] = []
        self.constants, self.table_memory = Data(), Data()
        self.table_places: dict[str, int] = {}
        self.values, self.planes, self.matrices = Memory(), Memory(), Memory()
        self.slots: dict[Source, Slot] = {}
        self.split: dict[Source, dict[Slice, Split]] = {}
        self.messages: list[Source] = []
        self.counted = sum(len(node.sends) for node in part.nodes)
        self.inputs: dict[Source, tuple[int, int]] = {}
        self.state_size = self.tile = 0
        self.state_places: dict[tuple[str, str], tuple[int, int]] = {}
        self.fixed_counts: dict[str, NDArray[np.int64]] = {}
        self.weights: list[NDArray[np.uint8]] = []
        self.roots: dict[Source, Source] = {}
        for node in part.nodes:
            if _passes_on(node):
                self.roots[node.out()] = self._root(node.inputs[0])
        self.last_use = {self._root(source): at for at, node in enumerate(part.nodes) for source in node.inputs}
        self.last_use.update((self._root(source), len(part.nodes)) for source in part.results)
        self.slices: dict[Source, set[Slice]] = defaultdict(set)
        for node in part.nodes:
            if isinstance(node, TernarySynapse):
                self.slices[self._root(node.inputs[0])].add((node.first_column, node.columns))
        self.direct = next(filter(self._is_direct, part.results), None)
        self.last_alone = False

    def _is_direct(self, source: Source) -> bool:
        """Whether the caller alone reads a result of a ternary synapse."""
        reader = any(source in node.inputs for node in self.part.nodes)
        return isinstance(self.graph.by_name[source.node], TernarySynapse) and not reader

    def _root(self, source: Source) -> Source:
        return self.roots.get(source, source)

    def add_inputs(self) -> None:
        """Make room for what comes from outside, which is there before the first phase."""
        for source in self.part.inputs:
            producer = self.graph.by_name[source.node]
            width, bits = producer.outputs[source.port], _bits_of(self.graph, source)
            slot = self._slot(source, width, everywhere=False, bits=bits)
            slot.phase = -1
            self.inputs[source] = (slot.place, slot.width)
        for source in self.part.inputs:
            self._split(source)

    def add(self, node: Node, position: int) -> None:
        """Plan one node and free what it was the last to read."""
        step = _STEPS.get(type(node))
        if step is None:
            raise NotPlannedError(f"{node.name}: {type(node).__name__} has no kernel")
        if _passes_on(node):
            return
        step(self, node)
        for port in node.outputs:
            self._split(node.out(port))
        self._free(node, position)

    def plan(self) -> Plan:
        """Return the finished plan."""
        constants = [*self.constants.parts, np.zeros(1, dtype=np.int64)]
        tables = [*self.table_memory.parts, np.zeros(1, dtype=np.int32)]
        return Plan(
            steps=np.array(self.steps.rows, dtype=np.int64),
            names=tuple(self.names),
            code=self.code.array(),
            links=self.links.array(),
            structures=tuple(self.structures),
            constants=np.concatenate(constants).astype(np.int64),
            table_memory=np.concatenate(tables).astype(np.int32),
            values=self.values.size + 64,
            planes=self.planes.size + 64,
            matrices=self.matrices.size + 64,
            state_size=self.state_size + 1,
            tile=self.tile,
            inputs=self.inputs,
            results={source: self._result(source) for source in self.part.results if source != self.direct},
            direct=self.direct,
            last_alone=self.last_alone,
            messages=tuple(self.messages),
            state_places=self.state_places,
            counting=tuple(self.fixed_counts),
            fixed_counts=np.concatenate([no_counts(0), *self.fixed_counts.values()]),
            weights=tuple(self.weights),
        )

    # -- steps ----------------------------------------------------------------------------------

    def _step(self, row: list[int], name: str) -> None:
        self.steps.extend([[*map(int, row), *[0] * (STEP_WIDTH - len(row))]])
        self.names.append(name)
        self.phase += row[0] == Step.BARRIER

    def _counting_step(self, row: list[int], name: str, fixed_counts: NDArray[np.int64]) -> None:
        """A step that counts saturations or overflows of its node; `fixed_counts` [1, 2] are those it need not."""
        self._step([*row, *[0] * (NODE - len(row)), len(self.fixed_counts)], name)
        self.fixed_counts[name] = fixed_counts

    def _await(self, slots: list[Slot], share: int | None) -> None:
        """Put a barrier where a step reads what another thread writes in this phase.

        `share` is the size whose share of a thread the step reads; None if it reads everything.
        """
        foreign = [each for each in slots if not each.everywhere and each.width != share]
        if any(each.phase == self.phase for each in foreign):
            self._step([Step.BARRIER], "barrier")

    def _slot(self, source: Source, width: int, everywhere: bool, bits: int = MESSAGE_BITS) -> Slot:
        if bits > MESSAGE_BITS:
            raise NotPlannedError(f"{source} has {bits} bits")
        slot = Slot(self.values.take(width * self.tokens, self.phase), width, self.phase, everywhere, bits)
        self.slots[source] = slot
        return slot

    def _free(self, node: Node, position: int) -> None:
        produced = [node.out(port) for port in node.outputs]
        for source in {*map(self._root, node.inputs), *produced}:
            if self.last_use.get(source, position) == position and source in self.slots:
                slot = self.slots.pop(source)
                self.values.give(slot.place, slot.width * self.tokens, self.phase)
                if source in self.split:
                    self._free_split(source)

    def _free_split(self, source: Source) -> None:
        for (_, columns), split in self.split.pop(source).items():
            key = (columns, split.digits)
            self.planes.give(split.planes, vector_planes_bytes(*key), self.phase, key)
            self.matrices.give(split.matrices, self._matrix_words(*key, split.sums), self.phase)
            self.values.give(split.totals, self.threads * self.tokens, self.phase)

    def _result(self, source: Source) -> tuple[int, int]:
        slot = self.slots[self._root(source)]
        return slot.place, slot.width

    def _split(self, source: Source) -> None:
        """Write the digits of what goes of a value into ternary synapses."""
        if source not in self.slots:
            return
        for part in sorted(self.slices.get(source, ())):
            self._split_slice(source, *part)

    def _split_slice(self, source: Source, first: int, columns: int) -> None:
        slot = self.slots[source]
        digits = digits_for(slot.bits)
        if not digits or columns << (slot.bits - 1) >= LARGEST_SUM:
            raise NotPlannedError(f"{source}: the products of {columns} values of {slot.bits} bits are too wide")
        if first + columns > slot.width:
            raise NotPlannedError(f"{source}: columns {first} to {first + columns} of a broadcast are read")
        self._await([slot], slot.width if columns == slot.width else None)
        key = (columns, digits)
        # The end of the planes of a vector stays zero, so they are shared only by vectors of equal length.
        planes = self.planes.take(vector_planes_bytes(*key), self.phase, key)
        # One digit is multiplied as fast as it is looked up.
        sums = self.sums and digits == 2 and slot.bits <= SUM_BITS
        matrices = self.matrices.take(self._matrix_words(*key, sums), self.phase)
        totals = self.values.take(self.threads * self.tokens, self.phase)
        readers = self.graph.consumers.get(source, ())
        final = self.direct is not None and all(reader.name == self.direct.node for reader in readers)
        split = Split(planes, matrices, totals, digits, sums, final, self.phase)
        self.split.setdefault(source, {})[first, columns] = split
        places = [planes, matrices, totals]
        row = [Step.SPLIT, slot.place + first, columns, digits, *places, final, slot.width, sums]
        self._step(row, source.node)

    def _matrix_words(self, columns: int, digits: int, sums: bool) -> int:
        if sums:
            return sum_tables_words(columns, self.tokens)
        return matrix_planes_words(columns, digits, self.tokens)

    def _ternary(self, node: TernarySynapse) -> None:
        split = self.split[self._root(node.inputs[0])][node.first_column, node.columns]
        if split.phase == self.phase:
            self._step([Step.BARRIER], "barrier")
        packed = np.ascontiguousarray(self.graph.tensors[node.codes])
        self.weights.append(packed)
        stride = packed.shape[1]
        self.tile = max(self.tile, TILE_ROWS * stride, sum_codes_words(stride) if split.sums else 0)
        if node.out() == self.direct:
            place, self.last_alone = -1, split.final
        else:
            place = self._slot(node.out(), node.rows, everywhere=False).place
        shape = [packed.ctypes.data, stride, node.rows]
        parts = [split.planes, split.matrices, split.totals, split.final]
        row = [Step.TERNARY, *shape, *parts, place, split.digits, split.sums]
        self._counting_step(row, node.name, no_counts(1))

    def _sum(self, node: SumSynapse) -> None:
        slot = self.slots[self._root(node.inputs[0])]
        if slot.width != node.columns:
            raise NotPlannedError(f"{node.name} reads a broadcast")
        self._await([slot], None)
        out = self._slot(node.out(), 1, everywhere=True)
        self._counting_step([Step.SUM, slot.place, slot.width, out.place], node.name, no_counts(1))

    def _group(self, node: NeuronGroup) -> None:
        slots = [self.slots[self._root(source)] for source in node.inputs]
        if any(each.width not in (1, node.size) for each in slots):
            raise NotPlannedError(f"{node.name} reads a vector of another length")
        # A single neuron without state is computed by every thread rather than waited for.
        everywhere = node.size == 1 and not node.program.states
        self._await(slots, None if everywhere else node.size)
        constants, tables = node.parameters(self.graph.tensors)
        assembled = assemble(node.program, constants, tables, self.strict, node.size)
        outputs = [
            self._slot(node.out(port.name), node.size, everywhere, port.bits) for port in node.program.outputs
        ]
        keys = dict(node.tables)
        links = [
            *([self._input_link(each, node.size), each.place] for each in slots),
            *([Link.VALUES, each.place] for each in outputs),
            *([Link.STATE, self._state(node, port.name)] for port in node.program.states),
            *([_constant_link(value), self.constants.add(value)] for _, value in assembled.fixed),
            *(link for name in node.program.tables for link in self._table(keys[name])),
        ]
        if len(links) > LINKS:
            raise NotPlannedError(f"{node.name} has more than {LINKS} inputs, outputs, states and parameters")
        self.structures.append((len(self.steps.rows), self._structure(node, assembled, slots)))
        code, first = self.code.extend(assembled.numbers.tolist()), self.links.extend(links)
        row = [Step.GROUP, node.size, 0, code, first, first + len(links), int(everywhere)]
        self._counting_step(row, node.name, assembled.fixed_counts)
        for port in node.outputs:
            self._count(node.out(port))

    def _count(self, source: Source) -> None:
        """Count the elements of a message that are not zero, if anybody wants to know."""
        if self.record:
            slot = self.slots[source]
            row = [Step.COUNT, slot.place, slot.width, len(self.messages), slot.everywhere, self.counted]
            self._step(row, source.node)
            self.messages.append(source)

    def _input_link(self, slot: Slot, size: int) -> Link:
        return Link.VALUES if slot.width == size else Link.SHARED_VALUE

    def _structure(self, node: NeuronGroup, assembled: Assembled, slots: list[Slot]) -> Structure:
        program = node.program
        return Structure(
            instructions=assembled.instructions,
            fixed=tuple((register, value.size > 1) for register, value in assembled.fixed),
            inputs=tuple(each.width == node.size for each in slots),
            outputs=len(program.outputs),
            states=len(program.states),
            tables=len(program.tables),
            strict=self.strict,
            lanes=assembled.lanes,
        )

    def _state(self, node: NeuronGroup, name: str) -> int:
        self.state_places[node.name, name] = (self.state_size, node.size)
        self.state_size += node.size
        return self.state_size - node.size

    def _table(self, key: str) -> list[list[int]]:
        tensor = self.graph.tensors[key]
        if key not in self.table_places:
            self.table_places[key] = self.table_memory.add(tensor)
        return [[Link.TABLE, self.table_places[key]], [Link.TABLE_LENGTH, tensor.size]]


def _no_step(planner: _Planner, node: Any) -> None:
    """What only passes on is read where its source lies."""


_STEPS: Mapping[type[Node], Callable[[_Planner, Any], None]] = {
    NeuronGroup: _Planner._group,
    TernarySynapse: _Planner._ternary,
    SumSynapse: _Planner._sum,
    Broadcast: _no_step,
    Delay: _no_step,
}
"""What each kind of node becomes."""


def _passes_on(node: Node) -> bool:
    return _STEPS.get(type(node)) is _no_step


def _bits_of(graph: Graph, source: Source) -> int:
    """Return the declared width of a message; accumulators and embeddings have no narrower one."""
    producer = graph.by_name[source.node]
    while _passes_on(producer):
        (source,) = producer.inputs
        producer = graph.by_name[source.node]
    ports = producer.program.outputs if isinstance(producer, NeuronGroup) else ()
    return next((port.bits for port in ports if port.name == source.port), MESSAGE_BITS)


def _constant_link(value: Integers) -> Link:
    return Link.SHARED_CONSTANT if value.size == 1 else Link.CONSTANTS

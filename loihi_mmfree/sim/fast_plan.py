"""From a lowered graph to the tables that `fixedpoint.kernels.network` walks through. Imports no numba."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.compiler.graph import Graph, Node, Source
from loihi_mmfree.compiler.nodes import (
    Broadcast,
    Delay,
    LogitsOut,
    NeuronGroup,
    SumSynapse,
    TernarySynapse,
    TokenIn,
)
from loihi_mmfree.compiler.verify import node_parameters
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.kernels.assemble import IMMEDIATE, WIDTH, Assembled, assemble
from loihi_mmfree.fixedpoint.kernels.layout import (
    LINKS,
    STEP_WIDTH,
    Link,
    Step,
    digits_for,
    matrix_planes_words,
    vector_planes_bytes,
)
from loihi_mmfree.fixedpoint.kernels.structure import Structure

LARGEST_SUM = 2**31
"""Kernels add up in 32 bits; what the proof of bounds lets through has 24."""
MESSAGE_BITS = 32


class NotPlannedError(Exception):
    """The graph is of a kind that the kernels do not know: the NumPy path has to run it."""


@dataclass
class Slot:
    """Where a value lies, how many elements a token has, which phase wrote it, and whether every thread did."""

    place: int
    width: int
    phase: int
    everywhere: bool
    bits: int = MESSAGE_BITS


@dataclass
class Memory:
    """Places in a buffer; one that was freed in an earlier phase is given out again."""

    size: int = 0
    free: dict[object, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    def take(self, size: int, phase: int, key: object = None) -> int:
        """Return a place for `size` elements, not read or written in the current phase."""
        size = -(-size // 64) * 64 + 64
        waiting = self.free[(size, key)]
        if waiting and waiting[0][0] < phase:
            return waiting.pop(0)[1]
        self.size += size
        return self.size - size

    def give(self, place: int, size: int, phase: int, key: object = None) -> None:
        """Take a place back whose last use is in the current phase."""
        self.free[(-(-size // 64) * 64 + 64, key)].append((phase, place))


@dataclass
class Rows:
    """A table that grows by rows of integers."""

    width: int
    rows: list[list[int]] = field(default_factory=list)

    def extend(self, rows: list[list[int]]) -> int:
        """Add rows and return the number of the first."""
        self.rows += rows
        return len(self.rows) - len(rows)

    def array(self) -> NDArray[np.int64]:
        """Return the table, with an empty last row so that it is never empty."""
        return np.array([*self.rows, [0] * self.width], dtype=np.int64).reshape(-1, self.width)


@dataclass
class Data:
    """A buffer that grows by arrays."""

    parts: list[np.ndarray] = field(default_factory=list)
    size: int = 0

    def add(self, part: np.ndarray) -> int:
        """Append an array and return where it begins."""
        self.parts.append(part)
        self.size += part.size
        return self.size - part.size


@dataclass(frozen=True)
class Plan:
    """Everything about a network that does not change while it runs.

    Parameters
    ----------
    steps, code, links : int64 arrays
        See `kernels.network`; a group's step lacks the address of its function.
    structures : tuple of (step, Structure)
        Which function a group's step wants.
    names : tuple of str
        Node of each step.
    constants, table_memory : int64 and int32 arrays
    values, planes, matrices, state_size, tile : int
        Sizes of the buffers.
    token_place : int
        Where the rows of the embedding go.
    state_places : mapping (node, state) -> (begin, size)
    saturations, overflows : int
        What the specification counts in every call for registers that never change.
    weights : tuple of arrays
        The packed weights whose addresses the steps hold.
    """

    steps: NDArray[np.int64]
    names: tuple[str, ...]
    code: NDArray[np.int64]
    links: NDArray[np.int64]
    structures: tuple[tuple[int, Structure], ...]
    constants: Integers
    table_memory: NDArray[np.int32]
    values: int
    planes: int
    matrices: int
    state_size: int
    tile: int
    token_place: int
    state_places: dict[tuple[str, str], tuple[int, int]]
    saturations: int
    overflows: int
    weights: tuple[NDArray[np.uint8], ...]


def make_plan(graph: Graph, tokens: int, threads: int, strict: bool) -> Plan:
    """Plan a network for up to `tokens` tokens at a time.

    Raises
    ------
    NotPlannedError
        Something in the graph is beyond the kernels.
    """
    planner = _Planner(graph, tokens, threads, strict)
    for position, node in enumerate(graph.nodes):
        planner.add(node, position)
    return planner.plan()


class _Planner:
    """The plan so far. A phase is what lies between two barriers."""

    def __init__(self, graph: Graph, tokens: int, threads: int, strict: bool) -> None:
        self.graph, self.tokens, self.threads, self.strict = graph, tokens, threads, strict
        self.phase = 0
        self.steps, self.names = Rows(STEP_WIDTH), list[str]()
        self.code, self.links = Rows(WIDTH), Rows(2)
        self.structures: list[tuple[int, Structure]] = []
        self.constants, self.table_memory = Data(), Data()
        self.table_places: dict[str, int] = {}
        self.values, self.planes, self.matrices = Memory(), Memory(), Memory()
        self.slots: dict[Source, Slot] = {}
        self.split: dict[Source, tuple[int, int, int, int, int]] = {}
        self.state_size = self.tile = self.token_place = 0
        self.state_places: dict[tuple[str, str], tuple[int, int]] = {}
        self.saturations = self.overflows = 0
        self.weights: list[NDArray[np.uint8]] = []
        self.roots: dict[Source, Source] = {}
        for node in graph:
            if isinstance(node, Broadcast | Delay):
                self.roots[node.out()] = self._root(node.inputs[0])
        self.last_use = {self._root(source): at for at, node in enumerate(graph) for source in node.inputs}
        self.matrix_input: dict[Source, int] = {}
        for at, node in enumerate(graph):
            if isinstance(node, TernarySynapse):
                self.matrix_input[self._root(node.inputs[0])] = at
        self.logits = next(node for node in graph if isinstance(node, LogitsOut)).inputs[0]

    def _root(self, source: Source) -> Source:
        return self.roots.get(source, source)

    def add(self, node: Node, position: int) -> None:
        """Plan one node and free what it was the last to read."""
        match node:
            case TokenIn():
                slot = self._slot(node.out(), node.size, everywhere=False)
                slot.phase, self.token_place = -1, slot.place
            case NeuronGroup():
                self._group(node)
            case TernarySynapse():
                self._ternary(node)
            case SumSynapse():
                self._sum(node)
            case Broadcast() | Delay():
                return
            case LogitsOut():
                if not isinstance(self.graph.by_name[node.inputs[0].node], TernarySynapse):
                    raise NotPlannedError(f"{node.name} does not read a ternary synapse")
            case _:
                raise NotPlannedError(f"{node.name}: {type(node).__name__} has no kernel")
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
            token_place=self.token_place,
            state_places=self.state_places,
            saturations=self.saturations,
            overflows=self.overflows,
            weights=tuple(self.weights),
        )

    # -- steps ----------------------------------------------------------------------------------

    def _step(self, row: list[int], name: str) -> None:
        self.steps.extend([[*map(int, row), *[0] * (STEP_WIDTH - len(row))]])
        self.names.append(name)
        self.phase += row[0] == Step.BARRIER

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
                    self._free_split(source, slot)

    def _free_split(self, source: Source, slot: Slot) -> None:
        planes, matrices, totals, digits, _ = self.split.pop(source)
        key = (slot.width, digits)
        self.planes.give(planes, vector_planes_bytes(*key), self.phase, key)
        self.matrices.give(matrices, matrix_planes_words(*key, self.tokens), self.phase)
        self.values.give(totals, self.threads * self.tokens, self.phase)

    def _split(self, source: Source) -> None:
        """Write the digits of a value that goes into ternary synapses."""
        if source not in self.matrix_input or source not in self.slots:
            return
        slot = self.slots[source]
        digits = digits_for(slot.bits)
        if not digits or slot.width << (slot.bits - 1) >= LARGEST_SUM:
            raise NotPlannedError(
                f"{source}: the products of {slot.width} values of {slot.bits} bits are too wide"
            )
        self._await([slot], slot.width)
        key = (slot.width, digits)
        # The end of the planes of a vector stays zero, so they are shared only by vectors of equal length.
        planes = self.planes.take(vector_planes_bytes(*key), self.phase, key)
        matrices = self.matrices.take(matrix_planes_words(*key, self.tokens), self.phase)
        totals = self.values.take(self.threads * self.tokens, self.phase)
        readers = self.graph.consumers.get(source, ())
        final = int(all(reader.name == self.logits.node for reader in readers))
        row = [Step.SPLIT, slot.place, slot.width, digits, planes, matrices, totals, final]
        self._step(row, source.node)
        self.split[source] = (planes, matrices, totals, digits, final)
        slot.phase = self.phase

    def _ternary(self, node: TernarySynapse) -> None:
        source = self._root(node.inputs[0])
        if self.slots[source].width != node.columns or source not in self.split:
            raise NotPlannedError(f"{node.name} reads a broadcast")
        self._await([self.slots[source]], None)
        packed = np.ascontiguousarray(self.graph.tensors[node.codes])
        self.weights.append(packed)
        self.tile = max(self.tile, packed.shape[1])
        planes, matrices, totals, digits, final = self.split[source]
        place = -1
        if node.out() != self.logits:
            place = self._slot(node.out(), node.rows, everywhere=False).place
        elif len(self.graph.readers(node)) > 1:
            raise NotPlannedError(f"{node.name}: the logits are read within the network")
        shape = [packed.ctypes.data, packed.shape[1], node.rows]
        self._step([Step.TERNARY, *shape, planes, matrices, totals, final, place, digits], node.name)

    def _sum(self, node: SumSynapse) -> None:
        slot = self.slots[self._root(node.inputs[0])]
        if slot.width != node.columns:
            raise NotPlannedError(f"{node.name} reads a broadcast")
        self._await([slot], None)
        out = self._slot(node.out(), 1, everywhere=True)
        self._step([Step.SUM, slot.place, slot.width, out.place], node.name)

    def _group(self, node: NeuronGroup) -> None:
        slots = [self.slots[self._root(source)] for source in node.inputs]
        if any(each.width not in (1, node.size) for each in slots):
            raise NotPlannedError(f"{node.name} reads a vector of another length")
        # A single neuron without state is computed by every thread rather than waited for.
        everywhere = node.size == 1 and not node.program.states
        self._await(slots, None if everywhere else node.size)
        constants, tables = node_parameters(self.graph, node)
        assembled = assemble(node.program, constants, tables, self.strict)
        self.saturations += assembled.counters.saturations
        self.overflows += assembled.counters.overflows
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
        code, first = self.code.extend(assembled.code.tolist()), self.links.extend(links)
        row = [Step.GROUP, node.size, 0, code, first, first + len(links), int(everywhere)]
        self._step(row, node.name)

    def _input_link(self, slot: Slot, size: int) -> Link:
        return Link.VALUES if slot.width == size else Link.SHARED_VALUE

    def _structure(self, node: NeuronGroup, assembled: Assembled, slots: list[Slot]) -> Structure:
        program = node.program
        return Structure(
            code=tuple(map(tuple, assembled.code[:, :IMMEDIATE].tolist())),
            fixed=tuple((register, value.size > 1) for register, value in assembled.fixed),
            inputs=tuple(each.width == node.size for each in slots),
            outputs=len(program.outputs),
            states=len(program.states),
            tables=len(program.tables),
            strict=self.strict,
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


def _constant_link(value: Integers) -> Link:
    return Link.SHARED_CONSTANT if value.size == 1 else Link.CONSTANTS

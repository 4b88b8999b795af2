"""Everything that is needed to write the microcode of one neuron group: its program and what surrounds it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from loihi_mmfree.fixedpoint.listing import form, listing
from loihi_mmfree.fixedpoint.operations import OPERATIONS, Named
from loihi_mmfree.fixedpoint.program import Instruction
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import NeuronGroup, block_of
from loihi_mmfree.ir.schedule import offsets
from loihi_mmfree.ir.synapses import Synapse, TernarySynapse


@dataclass(frozen=True)
class Hop:
    """A synapse that a message passes.

    Parameters
    ----------
    node, kind : str
    rows, columns : int
        Elements it delivers, and elements it reads.
    first_column : int
        The element of the source that the first column reads.
    steps : int
        Time steps that it takes.
    weights : str
        The tensor of packed ternary weights; empty where all are one.
    """

    node: str
    kind: str
    rows: int
    columns: int
    first_column: int
    steps: int
    weights: str


@dataclass(frozen=True)
class Feed:
    """An input of a program.

    Parameters
    ----------
    name : str
    bits : int
        As the program declares it.
    synapses : tuple of Hop
        What lies between sender and input, the nearest to the input first.
    sender : str
        node:port of the group, or the host, that sends.
    format : QFormat, optional
        What the sender's integers mean, where that is a fixed-point number.
    """

    name: str
    bits: int
    synapses: tuple[Hop, ...]
    sender: str
    format: QFormat | None


@dataclass(frozen=True)
class LoadedTensor:
    """A constant (an entry for each neuron, or one for all) or a table, and the tensor behind it.

    `bits` is the width of the register it is loaded into, `lowest` and `highest` are those of its entries.
    """

    name: str
    bits: int
    tensor: str
    shape: tuple[int, ...]
    dtype: str
    lowest: int
    highest: int


@dataclass(frozen=True)
class Variable:
    """A state, what its integers mean, and its value before the first token."""

    name: str
    bits: int
    format: QFormat | None
    initial: int = 0


@dataclass(frozen=True)
class Receiver:
    """A node that reads a message, and the inputs of groups, as node:input, that it gets to through it."""

    node: str
    kind: str
    reaches: tuple[str, ...]


@dataclass(frozen=True)
class Message:
    """An output of a program, what its integers mean where that is a fixed-point number, and who reads it."""

    name: str
    bits: int
    format: QFormat | None
    receivers: tuple[Receiver, ...]


@dataclass(frozen=True)
class Meaning:
    """An operation that the program uses: its operands as the listing writes them, and what it does."""

    operation: str
    operands: str
    meaning: str


@dataclass(frozen=True)
class NodeProgram:
    """A neuron group, complete.

    Parameters
    ----------
    node, role, block : str
    neurons : int
        Each of them runs the program once for each token.
    step : int
        The time step, counted from the token's entry, in which it does.
    depth : int
        The time step in which the token's logits are read.
    inputs, states, constants, tables, outputs
        What the program reads and writes.
    instructions : tuple of Instruction
    listing : tuple of str
        The same as text, a line each.
    operations : tuple of Meaning
        Those that occur, each once.
    """

    node: str
    role: str
    block: str
    neurons: int
    step: int
    depth: int
    inputs: tuple[Feed, ...]
    states: tuple[Variable, ...]
    constants: tuple[LoadedTensor, ...]
    tables: tuple[LoadedTensor, ...]
    outputs: tuple[Message, ...]
    instructions: tuple[Instruction, ...]
    listing: tuple[str, ...]
    operations: tuple[Meaning, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return dataclasses.asdict(self)


def describe_program(graph: Graph, node: NeuronGroup) -> NodeProgram:
    """Collect what is known of a neuron group.

    Parameters
    ----------
    graph : Graph
        Lowered and scheduled.
    node : NeuronGroup
        Of this graph.
    """
    program, received = node.program, offsets(graph)
    formats = dict(node.formats)
    used = dict.fromkeys(each.operation for each in program.instructions)
    return NodeProgram(
        node=node.name,
        role=node.role.value,
        block=block_of(node.name),
        neurons=node.size,
        step=received[node.name],
        depth=max(received.values()),
        inputs=tuple(
            _feed(graph, port.name, port.bits, source)
            for port, source in zip(program.inputs, node.inputs, strict=True)
        ),
        states=tuple(Variable(port.name, port.bits, formats.get(port.name)) for port in program.states),
        constants=_loaded_tensors(graph, node, Named.CONSTANT),
        tables=_loaded_tensors(graph, node, Named.TABLE),
        outputs=tuple(
            Message(port.name, port.bits, formats.get(port.name), _receivers(graph, node.out(port.name)))
            for port in program.outputs
        ),
        instructions=program.instructions,
        listing=listing(program),
        operations=tuple(Meaning(name, form(OPERATIONS[name]), OPERATIONS[name].meaning) for name in used),
    )


def _feed(graph: Graph, name: str, bits: int, source: Source) -> Feed:
    """Follow an input back to the group, or the host, that sends."""
    hops = []
    while isinstance(sender := graph.by_name[source.node], Synapse):
        hops.append(hop(sender))
        (source,) = sender.inputs
    formats = dict(sender.formats) if isinstance(sender, NeuronGroup) else {}
    return Feed(name, bits, tuple(hops), str(source), formats.get(source.port))


def hop(synapse: Synapse) -> Hop:
    """Describe a synapse."""
    kind, rows, steps = type(synapse).__name__, synapse.outputs["out"], synapse.latency
    if isinstance(synapse, TernarySynapse):
        return Hop(synapse.name, kind, rows, synapse.columns, synapse.first_column, steps, synapse.codes)
    (columns,) = synapse.input_sizes
    return Hop(synapse.name, kind, rows, columns, 0, steps, "")


def _loaded_tensors(graph: Graph, node: NeuronGroup, named: Named) -> tuple[LoadedTensor, ...]:
    bits = node.program.loaded(named)
    tensors = dict(node.constants if named is Named.CONSTANT else node.tables)
    found = []
    for name, key in sorted(tensors.items()):
        tensor = graph.tensors[key]
        ends = int(tensor.min()), int(tensor.max())
        found.append(LoadedTensor(name, bits[name], key, tensor.shape, tensor.dtype.name, *ends))
    return tuple(found)


def _receivers(graph: Graph, source: Source) -> tuple[Receiver, ...]:
    return tuple(
        Receiver(reader.name, _kind(reader), tuple(dict.fromkeys(_reaches(graph, reader, source))))
        for reader in graph.consumers.get(source, ())
    )


def _kind(node: Node) -> str:
    return node.role.value if isinstance(node, NeuronGroup) else type(node).__name__


def _reaches(graph: Graph, reader: Node, source: Source) -> list[str]:
    """The inputs of groups, or the host, behind a reader of a message."""
    if isinstance(reader, Synapse):
        out = reader.out()
        return [each for further in graph.consumers.get(out, ()) for each in _reaches(graph, further, out)]
    if isinstance(reader, NeuronGroup):
        ports = zip(reader.program.inputs, reader.inputs, strict=True)
        return [f"{reader.name}:{port.name}" for port, read in ports if read == source]
    return [reader.name]

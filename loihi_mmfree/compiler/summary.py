"""What a network consists of, counted from its graph."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from loihi_mmfree.compiler.artifact import Net
from loihi_mmfree.compiler.graph import Graph, Node
from loihi_mmfree.compiler.nodes import (
    HOST_BLOCK,
    Broadcast,
    Delay,
    NeuronGroup,
    SumSynapse,
    TernarySynapse,
    block_of,
)
from loihi_mmfree.compiler.schedule import arrival, offsets


@dataclass(frozen=True)
class BlockSummary:
    """Totals of one block.

    Parameters
    ----------
    name : str
    neurons : int
        One for each output message of each neuron: a neuron sends one payload a time step.
    synapses : int
        Non-zero weights, and the ones of sums, broadcasts and one-to-one connections.
    synapse_bytes : int
        Weights as stored in synapse memory, without the encoding's overhead.
    instructions : int
        Instructions executed in a time step by all neurons of the block.
    steps : int
        Time steps from the block's first message to its last.
    """

    name: str
    neurons: int
    synapses: int
    synapse_bytes: int
    instructions: int
    steps: int


@dataclass(frozen=True)
class NodeSummary:
    """One node: what it is, when it acts, what its messages mean."""

    name: str
    kind: str
    shape: str
    offset: int
    formats: str


@dataclass(frozen=True)
class Summary:
    """A whole network."""

    depth_steps: int
    activation_bits: int
    weight_bits: int
    neurons: int
    synapses: int
    synapse_bytes: int
    blocks: tuple[BlockSummary, ...]
    nodes: tuple[NodeSummary, ...]
    formats: dict[str, list[int]]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return dataclasses.asdict(self)


def summarize(net: Net) -> Summary:
    """Count a compiled network."""
    graph, config = net.graph, net.manifest["config"]
    received = offsets(graph)
    names = dict.fromkeys(block_of(node.name) for node in graph)
    blocks = tuple(_block(graph, name, received, config["weight_bits"]) for name in names if name != HOST_BLOCK)
    return Summary(
        depth_steps=max(received.values()),
        activation_bits=config["quantization"]["activation_bits"],
        weight_bits=config["weight_bits"],
        neurons=sum(block.neurons for block in blocks),
        synapses=sum(block.synapses for block in blocks),
        synapse_bytes=sum(block.synapse_bytes for block in blocks),
        blocks=blocks,
        nodes=tuple(_node(node, received[node.name]) for node in graph),
        formats=dict(net.manifest["formats"]),
    )


def _block(graph: Graph, name: str, received: Any, weight_bits: int) -> BlockSummary:
    nodes = [node for node in graph if block_of(node.name) == name]
    groups = [node for node in nodes if isinstance(node, NeuronGroup)]
    stored = sum(_stored_weights(node) for node in nodes)
    ends = [arrival(graph, received, node.name) for node in nodes]
    return BlockSummary(
        name=name,
        neurons=sum(node.size * len(node.program.outputs) for node in groups),
        synapses=sum(_synapses(graph, node) for node in nodes),
        synapse_bytes=stored * weight_bits // 8,
        instructions=sum(node.size * len(node.program.instructions) for node in groups),
        steps=max(ends) - min(received[node.name] for node in nodes),
    )


def _stored_weights(node: Node) -> int:
    """Weights that take synapse memory: all of a dense matrix, zeros included."""
    match node:
        case TernarySynapse():
            return node.rows * node.columns
        case SumSynapse():
            return node.columns
        case Broadcast():
            return node.rows
        case Delay():
            return node.size
        case _:
            return 0


def _synapses(graph: Graph, node: Node) -> int:
    if isinstance(node, TernarySynapse):
        return int(np.count_nonzero(node.weights(graph.tensors)))
    return _stored_weights(node)


def _node(node: Node, offset: int) -> NodeSummary:
    if isinstance(node, TernarySynapse):
        return NodeSummary(node.name, type(node).__name__, f"{node.columns} -> {node.rows}", offset, "")
    if isinstance(node, NeuronGroup):
        formats = ", ".join(f"{port} Q{each.bits}.{each.frac}" for port, each in node.formats)
        return NodeSummary(node.name, node.role, str(node.size), offset, formats)
    size = next(iter(node.outputs.values()), node.input_sizes[0] if node.input_sizes else 0)
    return NodeSummary(node.name, type(node).__name__, str(size), offset, "")

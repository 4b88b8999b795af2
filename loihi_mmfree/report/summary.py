"""What a network consists of and where it lies, counted from its graph and its placement."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loihi_mmfree.ir.graph import Node
from loihi_mmfree.ir.nodes import HOST_BLOCK, NeuronGroup, block_of
from loihi_mmfree.ir.schedule import arrival, offsets
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.check import core_usages
from loihi_mmfree.place.connections import HEAD_BLOCK
from loihi_mmfree.place.placement import Shard
from loihi_mmfree.place.resources import Costs, Usage


@dataclass(frozen=True)
class BlockSummary:
    """Totals of one block.

    Parameters
    ----------
    name : str
    chips : tuple of int
        Where it is placed; empty for what the host computes.
    cores : int
        Cores that hold any of it.
    neurons : int
        One for each output message of each neuron: a neuron sends one payload a time step.
    synapses : int
        Non-zero weights, and the ones of sums, broadcasts and one-to-one connections.
    synapse_bytes : int
        Synapse memory as placed, with the encoding's overhead; 0 on the host.
    instructions : int
        Instructions executed in a time step by all neurons of the block.
    steps : int
        Time steps from the block's first message to its last.
    """

    name: str
    chips: tuple[int, ...]
    cores: int
    neurons: int
    synapses: int
    synapse_bytes: int
    instructions: int
    steps: int


@dataclass(frozen=True)
class CoreSummary:
    """One neurocore.

    Parameters
    ----------
    chip, core : int
    shards : tuple of str
        `node[first:end]` for the neurons it holds.
    usage : mapping resource -> (used, limit)
    """

    chip: int
    core: int
    shards: tuple[str, ...]
    usage: Usage

    @property
    def fullest(self) -> str:
        """The resource of which most is used."""
        return max(self.usage, key=lambda name: self.usage[name][0] / self.usage[name][1])

    @property
    def load(self) -> float:
        """Share of the fullest resource that is used."""
        used, limit = self.usage[self.fullest]
        return used / limit

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return {**dataclasses.asdict(self), "fullest_resource": self.fullest, "load": self.load}


@dataclass(frozen=True)
class ChipSummary:
    """Totals of one chip; `load` is that of its fullest core."""

    chip: int
    cores: int
    blocks: tuple[str, ...]
    neurons: int
    synapse_bytes: int
    load: float


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
    """A whole network and its place; totals of neurons and memory are those on the chips."""

    chip: str
    head: str
    objective: str
    chips_used: int
    cores_used: int
    depth_steps: int
    activation_bits: int
    weight_bits: int
    neurons: int
    synapses: int
    synapse_bytes: int
    blocks: tuple[BlockSummary, ...]
    chips: tuple[ChipSummary, ...]
    cores: tuple[CoreSummary, ...]
    nodes: tuple[NodeSummary, ...]
    formats: dict[str, list[int]]

    @property
    def fullest_cores(self) -> tuple[CoreSummary, ...]:
        """The cores, the fullest first."""
        return tuple(sorted(self.cores, key=lambda core: -core.load))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        data = dataclasses.asdict(self)
        data["cores"] = [core.to_dict() for core in self.cores]
        data["fullest_core"] = self.fullest_cores[0].to_dict() if self.cores else None
        return data


def summarize(net: Net) -> Summary:
    """Count a compiled network."""
    graph, placement = net.graph, net.placed.placement
    received = offsets(graph)
    names = dict.fromkeys(block_of(node.name) for node in graph)
    cores = _cores(net)
    blocks = tuple(_block(net, name, received) for name in names if name != HOST_BLOCK)
    return Summary(
        chip=net.placed.chip.name,
        head=placement.head,
        objective=placement.objective,
        chips_used=placement.chips_used,
        cores_used=placement.cores_used,
        depth_steps=max(received.values()),
        activation_bits=net.manifest["config"]["quantization"]["activation_bits"],
        weight_bits=placement.weight_bits,
        neurons=sum(core.usage["neurons"][0] for core in cores),
        synapses=sum(block.synapses for block in blocks if block.cores),
        synapse_bytes=sum(core.usage["synapse_bytes"][0] for core in cores),
        blocks=blocks,
        chips=_chips(net, cores),
        cores=cores,
        nodes=tuple(_node(node, received[node.name]) for node in graph),
        formats=dict(net.manifest["formats"]),
    )


def _cores(net: Net) -> tuple[CoreSummary, ...]:
    placement = net.placed.placement
    usages = core_usages(net.graph, net.placed.chip, placement)
    return tuple(
        CoreSummary(
            core.chip, core.core, tuple(f"{each.node}[{each.first}:{each.end}]" for each in core.shards), used
        )
        for core, used in zip(placement.cores, usages, strict=True)
    )


def _chips(net: Net, cores: tuple[CoreSummary, ...]) -> tuple[ChipSummary, ...]:
    placement = net.placed.placement
    found = []
    for chip in sorted({core.chip for core in cores}):
        held = [core for core in cores if core.chip == chip]
        shards = [shard for core in placement.cores if core.chip == chip for shard in core.shards]
        blocks = tuple(dict.fromkeys(_block_of(shard) for shard in shards))
        neurons, stored = (sum(core.usage[name][0] for core in held) for name in ("neurons", "synapse_bytes"))
        found.append(ChipSummary(chip, len(held), blocks, neurons, stored, max(core.load for core in held)))
    return tuple(found)


def _block(net: Net, name: str, received: Mapping[str, int]) -> BlockSummary:
    graph, placement = net.graph, net.placed.placement
    costs = Costs(graph, net.placed.chip, placement.weight_bits)
    nodes = [node for node in graph if block_of(node.name) == name]
    cores = [core for core in placement.cores if any(_block_of(shard) == name for shard in core.shards)]
    shards = [shard for core in cores for shard in core.shards if _block_of(shard) == name]
    ends = [arrival(graph, received, node.name) for node in nodes]
    return BlockSummary(
        name=name,
        chips=tuple(sorted({core.chip for core in cores})),
        cores=len(cores),
        neurons=sum(sum(node.sends.values()) for node in nodes),
        synapses=sum(node.synapses(graph.tensors) for node in nodes),
        synapse_bytes=sum(costs.usage([shard])["synapse_bytes"][0] for shard in shards),
        instructions=sum(node.neurons * node.instructions for node in nodes),
        steps=max(ends) - min(received[node.name] for node in nodes),
    )


def _block_of(shard: Shard) -> str:
    """The block of placed neurons; logits on chip belong to the head."""
    block = block_of(shard.node)
    return HEAD_BLOCK if block == HOST_BLOCK else block


def _node(node: Node, offset: int) -> NodeSummary:
    meant = node.formats if isinstance(node, NeuronGroup) else ()
    formats = ", ".join(f"{port} {each}" for port, each in meant)
    return NodeSummary(node.name, node.kind, node.shape, offset, formats)

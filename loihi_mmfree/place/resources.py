"""What neurons take up on a core: the single source for the check, the report and the placer.

Everything adds up over the shards of a core, except input axons: shards that read the same message share
its axon. See docs/placement.md for the model of a core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.loihi2.hardware import ChipSpec
from loihi_mmfree.place.connections import Connection, connections, placeable
from loihi_mmfree.place.placement import Shard

RESOURCES = (
    "neurons",
    "synapse_bytes",
    "state_bytes",
    "input_axons",
    "output_axons",
    "program_bytes",
    "table_bytes",
    "core_memory_bytes",
)
"""In the order in which tables list them."""
UNITS: Mapping[str, str] = {
    "neurons": "neurons",
    "synapse_bytes": "bytes of synapse memory",
    "state_bytes": "bytes of neuron state",
    "input_axons": "input axons",
    "output_axons": "output axons",
    "program_bytes": "bytes of neuron programs",
    "table_bytes": "bytes of tables",
    "core_memory_bytes": "bytes of core memory",
}
"""Each resource in words."""

Usage = dict[str, tuple[int, int]]


def limits(spec: ChipSpec) -> dict[str, int]:
    """Return what one core may hold, by resource."""
    return {
        "neurons": spec.neurons_per_core.value,
        "synapse_bytes": spec.synapse_memory_bytes.value,
        "state_bytes": spec.core_memory_bytes.value - spec.synapse_memory_bytes.value,
        "input_axons": spec.input_axons.value,
        "output_axons": spec.output_axons.value,
        "program_bytes": spec.program_memory_bytes.value,
        "table_bytes": spec.table_memory_bytes.value,
        "core_memory_bytes": spec.core_memory_bytes.value,
    }


def usage(
    graph: Graph, spec: ChipSpec, weight_bits: int, shards: Sequence[Shard], output_axons: int | None = None
) -> Usage:
    """Return what shards take up on one core, and what it may hold.

    Parameters
    ----------
    weight_bits : int
        Bits a weight takes in synapse memory.
    shards : sequence of Shard
        All that the core holds.
    output_axons : int, optional
        Routing entries, which depend on where the readers sit (:mod:`.routes` counts them). Without it, one
        for each message.

    Returns
    -------
    dict of resource -> (used, limit)
    """
    return Costs(graph, spec, weight_bits).usage(shards, output_axons)


@dataclass(frozen=True)
class NeuronCost:
    """What one group takes up: by the neuron, and once on every core that holds any of it.

    Parameters
    ----------
    messages : int
        Messages a neuron can send in a step; each takes a neuron of the chip, which sends one.
    state_bytes : int
        Of one neuron: accumulators, state variables and constants of its own.
    program_bytes, table_bytes : int
        Once a core; constants that all neurons share count as tables.
    """

    messages: int
    state_bytes: int
    program_bytes: int
    table_bytes: int
    connections: tuple[Connection, ...]

    def operations(self, count: int) -> int:
        """Return the synaptic operations of `count` neurons in a step in which every message arrives."""
        return sum(each.synapses(count) for each in self.connections)

    def messages_in(self, count: int) -> int:
        """Return how many distinct messages the first `count` neurons read."""
        first = Shard("", 0, count)
        return _distinct((each.source, each.reads(first)) for each in self.connections)


class Costs:
    """Counts what the groups of one graph take up on cores of one system, at one width of weights."""

    def __init__(self, graph: Graph, spec: ChipSpec, weight_bits: int) -> None:
        self.graph, self.spec, self.weight_bits = graph, spec, weight_bits
        self._groups: dict[str, NeuronCost] = {}

    @cached_property
    def limits(self) -> dict[str, int]:
        """What one core may hold."""
        return limits(self.spec)

    def group(self, name: str) -> NeuronCost:
        """Return what a neuron of a group takes up."""
        if name not in self._groups:
            self._groups[name] = neuron_cost(self.graph, self.spec, placeable(self.graph, name))
        return self._groups[name]

    def demand(self, group: NeuronCost, count: int, output_axons: int) -> dict[str, int]:
        """Return what `count` neurons of a group take up, input axons as if no other group shared them."""
        parts = {
            "neurons": count * group.messages,
            "synapse_bytes": sum(self.synapse_bytes(each, count) for each in group.connections),
            "state_bytes": count * group.state_bytes,
            "input_axons": group.messages_in(count),
            "output_axons": output_axons,
            "program_bytes": group.program_bytes,
            "table_bytes": group.table_bytes,
        }
        return {**parts, "core_memory_bytes": self._memory(parts)}

    def usage(self, shards: Sequence[Shard], output_axons: int | None = None) -> Usage:
        """As the function `usage`."""
        total = dict.fromkeys(RESOURCES, 0)
        for shard in shards:
            group = self.group(shard.node)
            for name, used in self.demand(group, shard.count, shard.count * group.messages).items():
                total[name] += used
        if output_axons is not None:
            total["output_axons"] = output_axons
        total["input_axons"] = self.input_axons(shards)
        total["core_memory_bytes"] = self._memory(total)
        return {name: (total[name], self.limits[name]) for name in RESOURCES}

    def synapse_bytes(self, connection: Connection, count: int) -> int:
        """Return the synapse memory of `count` neurons' share of a connection, in the smaller encoding.

        Every axon has a list of its own. Dense: a weight for each neuron of the shard, packed. Sparse: weight
        and number of the neuron for each synapse that there is; for ternary weights, zeros are counted too.
        """
        axons = count if connection.one_to_one else connection.columns
        synapses = 1 if connection.one_to_one else count
        delay = self.spec.delay_field_bytes.value if connection.latency > 1 else 0
        dense = _bytes(count * self.weight_bits) + count * delay
        sparse = synapses * (_bytes(self.weight_bits) + self.spec.sparse_index_bytes.value + delay)
        return axons * (self.spec.axon_header_bytes.value + min(dense, sparse))

    def input_axons(self, shards: Sequence[Shard]) -> int:
        """Return the number of distinct messages that shards read."""
        return _distinct(
            (each.source, each.reads(shard)) for shard in shards for each in self.group(shard.node).connections
        )

    def load(self, operations: int, messages_in: int) -> int:
        """Return the load of a core, in synaptic operations: the slower of two stages that work side by side."""
        return max(operations, messages_in * self.spec.message_operations.value)

    def _memory(self, parts: Mapping[str, int]) -> int:
        routing = parts["output_axons"] * self.spec.output_axon_bytes.value
        return routing + sum(parts[f"{name}_bytes"] for name in ("synapse", "state", "program", "table"))


def neuron_cost(graph: Graph, spec: ChipSpec, node: Node) -> NeuronCost:
    """Return what a neuron of a group takes up.

    An input keeps one accumulator for each time step that a message may be under way.
    """
    inputs, memory = connections(graph, node), node.neuron_memory(graph.tensors, spec)
    accumulators = sum(each.latency for each in inputs) * _bytes(spec.accumulator_bits.value)
    return NeuronCost(
        messages=memory.messages,
        state_bytes=accumulators + memory.state_bytes,
        program_bytes=memory.program_bytes,
        table_bytes=memory.table_bytes,
        connections=inputs,
    )


def _bytes(bits: int) -> int:
    return -(-bits // 8)


def _distinct(reads: Iterable[tuple[Source, tuple[int, int]]]) -> int:
    """The number of elements in ranges of sources, each counted once."""
    ranges: dict[Source, list[tuple[int, int]]] = {}
    for source, bounds in reads:
        ranges.setdefault(source, []).append(bounds)
    return sum(_length_of_union(each) for each in ranges.values())


def _length_of_union(ranges: list[tuple[int, int]]) -> int:
    total, reached = 0, 0
    for first, end in sorted(ranges):
        total += max(0, end - max(first, reached))
        reached = max(reached, end)
    return total

"""What a placed neuron holds of the graph: the synapses that end at it."""

from __future__ import annotations

from dataclasses import dataclass

from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import HOST_BLOCK, TokenIn, block_of
from loihi_mmfree.ir.synapses import Delay, Synapse
from loihi_mmfree.place.placement import Shard

HEAD_BLOCK = "lm_head"
EMBEDDINGS = "embeddings"


@dataclass(frozen=True)
class Connection:
    """All synapses of one input of a group.

    Parameters
    ----------
    source : Source
        The port whose messages arrive.
    first, columns : int
        The elements of the source that every neuron reads; of a one-to-one connection, all of them.
    one_to_one : bool
        Neuron j reads element j alone.
    latency : int
        Time steps from the message to the neuron that uses it.
    """

    source: Source
    first: int
    columns: int
    one_to_one: bool
    latency: int

    def reads(self, shard: Shard) -> tuple[int, int]:
        """Return the range of the source's elements that a shard reads: first, and one past the last."""
        return (shard.first, shard.end) if self.one_to_one else (self.first, self.first + self.columns)

    def synapses(self, count: int) -> int:
        """Return the number of synapses of `count` neurons, which is what a step executes at worst."""
        return count if self.one_to_one else count * self.columns


def connections(graph: Graph, node: Node) -> tuple[Connection, ...]:
    """Return the connections of a group, one for each of its inputs, in order.

    Raises
    ------
    ValueError
        Two synapses follow each other with no neuron between them, and the first is no delay.
    """
    return tuple(_connection(graph, source) for source in node.inputs)


def _connection(graph: Graph, source: Source) -> Connection:
    synapse = graph.by_name[source.node]
    if not isinstance(synapse, Synapse):
        size = synapse.outputs[source.port]
        return Connection(source, 0, size, one_to_one=True, latency=1)
    before, latency = synapse.inputs[0], synapse.latency
    while isinstance(delay := graph.by_name[before.node], Delay):
        before, latency = delay.inputs[0], latency + delay.latency
    if isinstance(graph.by_name[before.node], Synapse):
        raise ValueError(f"{synapse.name}: reads the synapse {before.node}; there must be neurons between them")
    field = synapse.field
    return Connection(before, field.first, field.columns, field.one_to_one, latency)


def placeable(graph: Graph, name: str) -> Node:
    """Return a node that is made of neurons.

    Raises
    ------
    TypeError
        The node is not.
    """
    node = graph.by_name[name]
    if not node.neurons:
        raise TypeError(f"{name}: a {type(node).__name__} has no neurons to place")
    return node


def placed_nodes(graph: Graph, head: str) -> tuple[Node, ...]:
    """Return the groups that sit on chip, in order; LogitsOut is one of them when `head` is "chip"."""
    nodes = (node for node in graph if node.neurons)
    return tuple(node for node in nodes if head == "chip" or placement_block(node) != HEAD_BLOCK)


def placement_block(node: Node) -> str:
    """Return the block whose cores are kept together that a group belongs to.

    The embeddings go with the first layer, the logits with the head.
    """
    block = block_of(node.name)
    if block == EMBEDDINGS:
        return "layers.0"
    return HEAD_BLOCK if block == HOST_BLOCK and not isinstance(node, TokenIn) else block

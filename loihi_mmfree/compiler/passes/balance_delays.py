"""Branches of different length meet: a value that would arrive early takes a delayed connection."""

from __future__ import annotations

from dataclasses import replace

from loihi_mmfree.compiler.graph import Graph, Node, Source
from loihi_mmfree.compiler.nodes import Delay, NeuronGroup
from loihi_mmfree.compiler.schedule import arrival
from loihi_mmfree.loihi2.hardware import LOIHI2


def balance_delays(graph: Graph) -> Graph:
    """Put a one-to-one connection between neuron groups that are wired directly, as late as its reader needs.

    Every hop between groups is a synapse of at least one time step. A delay longer than a synapse can hold is
    a chain of connections.
    """
    nodes: list[Node] = []
    received: dict[str, int] = {}
    for node in graph:
        if isinstance(node, NeuronGroup):
            received[node.name] = _meeting(graph, node, received)
            node, inserted = _balanced(graph, node, received)
            nodes += inserted
        else:
            times = (arrival(graph, received, source.node) for source in node.inputs)
            received[node.name] = max(times, default=0)
        nodes.append(node)
    return graph.with_nodes(nodes)


def _is_direct(graph: Graph, source: Source) -> bool:
    return isinstance(graph.by_name[source.node], NeuronGroup)


def _meeting(graph: Graph, node: Node, received: dict[str, int]) -> int:
    """The time step in which all inputs of a group can be there."""
    return max(
        (
            arrival(graph, received, source.node) + (1 if _is_direct(graph, source) else 0)
            for source in node.inputs
        ),
        default=0,
    )


def _balanced(graph: Graph, node: NeuronGroup, received: dict[str, int]) -> tuple[NeuronGroup, list[Delay]]:
    """The group with its direct inputs replaced by delayed connections."""
    inserted: list[Delay] = []
    inputs = list(node.inputs)
    for position, source in enumerate(node.inputs):
        if not _is_direct(graph, source):
            continue
        steps = received[node.name] - received[source.node]
        longest = LOIHI2.synapse_delay.value + 1
        name = f"{node.name}.{node.program.inputs[position].name}_delay"
        while steps > 0:
            hop = min(steps, longest)
            suffix = "" if steps <= longest else f"_{steps}"
            inserted.append(Delay(name + suffix, (source,), node.size, hop))
            source, steps = inserted[-1].out(), steps - hop
        inputs[position] = source
    return replace(node, inputs=tuple(inputs)), inserted

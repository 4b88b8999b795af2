"""Branches of different length meet: a value that would arrive early takes a delayed connection."""

from __future__ import annotations

from dataclasses import replace

from loihi_mmfree.compiler.passes.relay import relay
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.schedule import arrival
from loihi_mmfree.ir.synapses import Delay


def balance_delays(graph: Graph) -> Graph:
    """Put a one-to-one connection between neuron groups that are wired directly, as late as its reader needs.

    Every hop between groups is a synapse of at least one time step. What takes longer than a synapse can hold
    is sent on by relays.
    """
    nodes: list[Node] = []
    received: dict[str, int] = {}
    for node in graph:
        if isinstance(node, NeuronGroup):
            received[node.name] = _meeting(graph, node, received)
            node, inserted = _balanced(graph, node, received, graph.chip.synapse_delay.value + 1)
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


def _balanced(
    graph: Graph, node: NeuronGroup, received: dict[str, int], longest: int
) -> tuple[NeuronGroup, list[Node]]:
    """The group with its direct inputs replaced by delayed connections of at most `longest` time steps."""
    inserted: list[Node] = []
    inputs = list(node.inputs)
    for position, (source, port) in enumerate(zip(node.inputs, node.program.inputs, strict=True)):
        if not _is_direct(graph, source):
            continue
        name, steps = f"{node.name}.{port.name}_delay", received[node.name] - received[source.node]
        while steps > longest:
            delay = Delay(f"{name}_{steps}", (source,), node.size, longest)
            sender = relay(delay, port.bits)
            inserted += [delay, sender]
            source, steps = sender.out(), steps - longest
        inserted.append(Delay(name, (source,), node.size, steps))
        inputs[position] = inserted[-1].out()
    return replace(node, inputs=tuple(inputs)), inserted

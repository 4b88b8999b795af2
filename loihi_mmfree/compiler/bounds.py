"""Rules R1 to R3 for a whole graph, proved by running every node over intervals."""

from __future__ import annotations

from collections.abc import Iterator

from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.proof import Violation
from loihi_mmfree.ir.contract import Bounds
from loihi_mmfree.ir.graph import Graph, Node, Source


def bound_violations(graph: Graph) -> list[Violation]:
    """Return every limit of its chip that a graph cannot guarantee, for any input whatever."""
    return [violation for _, _, (_, violations) in propagate(graph) for violation in violations]


def propagate(graph: Graph) -> Iterator[tuple[Node, list[Interval], Bounds]]:
    """Yield every node with the ranges of what it reads, and what it answers to them, in order."""
    ranges: dict[Source, Interval] = {}
    for node in graph:
        inputs = [ranges[source] for source in node.inputs]
        found = node.bounds(graph.tensors, inputs, graph.chip)
        ranges.update((node.out(port), interval) for port, interval in found[0].items())
        yield node, inputs, found

"""When each node acts: offsets in time steps from the moment a token enters."""

from __future__ import annotations

from collections.abc import Mapping

from loihi_mmfree.ir.graph import Graph


def offsets(graph: Graph) -> Mapping[str, int]:
    """Return the time step, counted from the token's entry, in which each node receives its inputs.

    Raises
    ------
    ValueError
        Two inputs of a node arrive in different time steps.
    """
    received: dict[str, int] = {}
    for node in graph:
        arrivals = {str(source): arrival(graph, received, source.node) for source in node.inputs}
        if len(set(arrivals.values())) > 1:
            raise ValueError(f"{node.name}: inputs arrive in different time steps: {arrivals}")
        received[node.name] = max(arrivals.values(), default=0)
    return received


def arrival(graph: Graph, received: Mapping[str, int], name: str) -> int:
    """Return the time step in which what a node sends reaches its readers."""
    return received[name] + graph.by_name[name].latency


def depth(graph: Graph) -> int:
    """Return the number of time steps from a token's entry until its logits are read."""
    return max(offsets(graph).values())

"""A norm is one number for a token and a scaling by it; norms of the same input share the number."""

from __future__ import annotations

from loihi_mmfree.compiler.layers import Normalise, Scale, Statistic
from loihi_mmfree.ir.graph import Graph, Node, Source


def share_statistics(graph: Graph) -> Graph:
    """Split every norm into its statistic and its scaling, with equal statistics computed once."""
    statistics: dict[tuple[Source, tuple[str, ...], float], Statistic] = {}
    nodes: list[Node] = []
    for node in graph:
        if not isinstance(node, Normalise):
            nodes.append(node)
            continue
        key = (node.inputs[0], node.statistic_gains, node.epsilon)
        if key not in statistics:
            statistics[key] = Statistic(
                f"{node.statistic}.rms",
                node.inputs,
                1,
                node.statistic_gains,
                node.epsilon,
                node.size,
                node.statistic,
                squared=node.squared,
            )
            nodes.append(statistics[key])
        inputs = node.inputs[0], statistics[key].out()
        nodes.append(Scale(node.name, inputs, node.size, node.gains, site=node.site, port=node.port))
    return graph.with_nodes(nodes)

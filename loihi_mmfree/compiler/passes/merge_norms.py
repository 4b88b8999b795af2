"""attn_norm followed by a projection's own norm is one norm (norm algebra, docs/fixed-point.md).

RMS(RMS(x) * a) * b = x * a * b / sqrt(mean((x * a)**2)) but for the epsilons: the inner one cancels, the
outer one becomes epsilon * mean(x**2), a millionth of what it is added to.
"""

from __future__ import annotations

from dataclasses import replace

from loihi_mmfree.compiler.layers import Normalise
from loihi_mmfree.ir.graph import Graph, Node


def merge_norms(graph: Graph) -> Graph:
    """Merge every norm into the norms that read it; a norm nobody else reads disappears."""
    merged: dict[str, Node] = {}
    for node in graph:
        before = merged.get(node.inputs[0].node) if node.inputs else None
        if isinstance(node, Normalise) and isinstance(before, Normalise) and not before.statistic_gains:
            node = replace(
                node,
                inputs=before.inputs,
                statistic_gains=before.gains,
                gains=before.gains + node.gains,
                epsilon=0.0,
                statistic=before.statistic,
                squared=before.squared,
            )
        merged[node.name] = node
    read = {source.node for node in merged.values() for source in node.inputs}
    return graph.with_nodes(
        node for node in merged.values() if node.name in read or not isinstance(node, Normalise)
    )

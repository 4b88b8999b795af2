"""g_norm divides a token by one number, which the norm of o_proj divides out again: keep only its gain."""

from __future__ import annotations

from dataclasses import replace

from loihi_mmfree.compiler.layers import Gain, Normalise, SwishGate
from loihi_mmfree.ir.graph import Graph, Node


def drop_gate_norm(graph: Graph) -> Graph:
    """Replace a norm by its gain where it feeds only a swish gate that feeds only norms.

    The epsilon of those later norms was meant for a normalised input; without one it has no scale to be
    compared with, and is dropped too.
    """
    rewritten: dict[str, Node] = {}
    for node in graph:
        later = _norms_behind_gate(graph, node)
        if isinstance(node, Normalise) and later:
            rewritten[node.name] = Gain(node.name, node.inputs, node.size, node.gains, site=node.site)
            rewritten.update((norm.name, replace(norm, epsilon=0.0)) for norm in later)
    return graph.with_nodes(rewritten.get(node.name, node) for node in graph)


def _norms_behind_gate(graph: Graph, node: Node) -> list[Normalise]:
    """The norms reached through a swish gate, if nothing else is reached."""
    gates = graph.readers(node)
    behind = [reader for gate in gates for reader in graph.readers(gate)]
    norms = [reader for reader in behind if isinstance(reader, Normalise)]
    only_gates = all(isinstance(gate, SwishGate) for gate in gates)
    return norms if only_gates and len(norms) == len(behind) else []

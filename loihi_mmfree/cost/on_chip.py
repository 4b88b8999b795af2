"""What each token caused on the chip, counted as the model prices it: without what runs on the host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.counts import Activity
from loihi_mmfree.activity.incidents import NODE, SATURATIONS, Incidents
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.synapses import Synapse
from loihi_mmfree.place.connections import connections, placed_nodes
from loihi_mmfree.place.placement import Placement
from loihi_mmfree.place.routes import HOST, flows

Columns = Mapping[str, NDArray[Any]]


def on_chip_activity(graph: Graph, placement: Placement, activity: Activity) -> dict[str, NDArray[Any]]:
    """Return what every token caused on the chip.

    Their means are those of `count_workload(...).events`, which counts the same of a mean token.

    Parameters
    ----------
    graph : Graph
        Lowered; its tensors are not read.
    placement : Placement
        Of this graph.
    activity : Activity
        Of this graph.

    Returns
    -------
    dict {"messages", "synaptic_operations", "saturations"} -> array [T]
        Empty if the activity was not recorded by the token.
    """
    if activity.by_token is None:
        return {}
    columns = activity.columns
    return {
        "messages": _messages(graph, placement, columns, activity.tokens),
        "synaptic_operations": _operations(graph, placement, columns, activity.tokens),
        "saturations": _saturations(graph, placement, activity),
    }


def _messages(graph: Graph, placement: Placement, columns: Columns, tokens: int) -> NDArray[Any]:
    """Messages that cores send; each counts once, however many it goes to."""
    elements: Counter[Source] = Counter()
    for flow in flows(graph, placement):
        if flow.core != HOST:
            elements[flow.source] += flow.count
    found = np.zeros(tokens)
    for source, number in elements.items():
        node = graph.by_name[source.node]
        if source.port not in node.sends:
            found += number  # the host reads every logit
        else:
            found += columns[str(source)] * (number / node.outputs[source.port])
    return found


def _operations(graph: Graph, placement: Placement, columns: Columns, tokens: int) -> NDArray[Any]:
    """Synaptic operations; a synapse is on the core of the group it ends at."""
    found = np.zeros(tokens)
    for node in placed_nodes(graph, placement.head):
        for connection in connections(graph, node):
            before = graph.by_name[connection.source.node]
            if not before.host_end:
                fan_out = connection.synapses(node.neurons) / before.outputs[connection.source.port]
                found += columns[str(connection.source)] * fan_out
    return found


def _saturations(graph: Graph, placement: Placement, activity: Activity) -> NDArray[np.int64]:
    nodes, rows = activity.incidents.nodes, activity.incidents.rows
    placed = _names(graph, placement.head)
    numbers = [number for number, node in enumerate(nodes) if node in placed]
    return Incidents(nodes, rows[np.isin(rows[:, NODE], numbers)]).by_token(SATURATIONS, activity.tokens)


def _names(graph: Graph, head: str) -> set[str]:
    """The placed groups and the synapses that end at them."""
    groups = placed_nodes(graph, head)
    names = {node.name for node in groups}
    sources = [source for node in groups for source in node.inputs]
    while sources:
        node = graph.by_name[sources.pop().node]
        if isinstance(node, Synapse) and node.name not in names:
            names.add(node.name)
            sources.extend(node.inputs)
    return names

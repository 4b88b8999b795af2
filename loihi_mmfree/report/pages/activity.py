"""The activity that a report is made of, for its page: by block of the network, and by token."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from loihi_mmfree.activity.counts import synaptic_operations
from loihi_mmfree.ir.nodes import NeuronGroup, Role, block_of
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.connections import placed_nodes, placement_block
from loihi_mmfree.report.document import Report
from loihi_mmfree.report.pages.figures import Bin, bins_plot
from loihi_mmfree.report.pages.svg import Html
from loihi_mmfree.report.pages.tables import TEXT, Table, bar, count, table
from loihi_mmfree.text import counted

_MOST_POINTS = 120
"""Of a plot over tokens."""


def activity_context(report: Report, net: Net) -> dict[str, Any]:
    """Return what the template is filled with about activity."""
    if report.recorded:
        means = "means a token, clamped values a sum"
        where = f"Recorded: {report.activity.origin}, {counted(report.activity.tokens, 'token')}."
    else:
        means = "means a token"
        where = "Not recorded for this network, so that every message counts as sent."
    host = (
        " What is marked (host), final norm and head, is computed by the host: the model leaves it out."
        if len(_on_chip(net)) < len(_blocks(net))
        else ""
    )
    return {
        "activity": _by_block(report, net),
        "activity_text": (
            "Share of zeros at the input of each projection: a zero sends nothing. "
            f"Messages and synaptic operations are {means}.{host} {where}"
        ),
        **_over_tokens(report),
    }


def _by_block(report: Report, net: Net) -> Table:
    activity, on_chip = report.activity, _on_chip(net)
    kinds = list(report.zeros)
    zeros: dict[str, dict[str, float]] = defaultdict(dict)
    for node in net.graph:
        if isinstance(node, NeuronGroup) and node.role is Role.SCALE:
            for port, size in node.outputs.items():
                zeros[block_of(node.name)][port] = 1 - activity.per_token(node.out(port)) / size
    messages: dict[str, float] = defaultdict(float)
    for key, sent in activity.rates.items():
        messages[block_of(key.split(":")[0])] += sent
    for node in placed_nodes(net.graph, net.placed.placement.head):
        if node.host_end:
            messages[placement_block(node)] += node.neurons  # the host reads every one
    operations: dict[str, float] = defaultdict(float)
    for name, number in synaptic_operations(net.graph, activity.rates).items():
        operations[block_of(name)] += number
    clamped: dict[str, int] = defaultdict(int)
    for name, times in activity.saturations.items():
        clamped[block_of(name)] += times
    rows = [
        (
            block if block in on_chip else f"{block} (host)",
            *(_zero_cell(zeros[block].get(kind)) for kind in kinds),
            count(messages[block]),
            count(operations[block]),
            *([count(clamped[block])] if report.recorded else []),
        )
        for block in _blocks(net)
    ]
    headings: list[str | tuple[str, str]] = [("layer", TEXT), *kinds, "messages", "operations"]
    headings += ["clamped"] if report.recorded else []
    return table(headings, rows)


def _blocks(net: Net) -> list[str]:
    """The blocks with neurons, in the order of the graph."""
    return list(dict.fromkeys(block_of(node.name) for node in net.graph if node.sends))


def _on_chip(net: Net) -> set[str]:
    """Those of them whose neurons are placed."""
    placed = placed_nodes(net.graph, net.placed.placement.head)
    return {block_of(node.name) for node in placed if node.sends}


def _zero_cell(share: float | None) -> Html | str:
    return "" if share is None else Html(f"{share:.1%} {bar(share).text}")


def _over_tokens(report: Report) -> dict[str, Any]:
    """What each token caused, in the order in which they were read."""
    if report.activity.tokens < 2 or not report.per_token:
        return {"tokens_plots": [], "tokens_text": ""}
    plots, words = [], []
    for what, values in report.per_token.items():
        name = what.replace("_", " ")
        parts = np.array_split(values, min(len(values), _MOST_POINTS))
        ends = np.cumsum([len(each) for each in parts])
        scale, unit = (1e6, f"{name}, millions") if values.max() >= 1e6 else (1.0, name)
        bins = [
            Bin(end - (len(each) - 1) / 2, each.min() / scale, each.mean() / scale, each.max() / scale)
            for end, each in zip(ends, parts, strict=True)
        ]
        plots.append(bins_plot(f"{name} of each token", "token", unit, bins))
        words.append(f"{name} " + ", ".join(f"{end} {count(q.value)}" for end, q in report.spread(what).items()))
    return {
        "tokens_plots": plots,
        "tokens_text": (
            f"Counted in simulation over {report.activity.tokens:,} tokens, without what the host computes: "
            f"{'; '.join(words)}. The model takes the mean over "
            f"all tokens. The line joins the means of at most {_MOST_POINTS} stretches of tokens; the band is "
            "their range. The vertical axes need not begin with 0."
        ),
    }

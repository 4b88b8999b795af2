"""What the page of `report` shows of activity: by layer, and over tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.activity.counts import Activity
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.cost.on_chip import on_chip_activity
from loihi_mmfree.ir.executor import counting_nodes
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup, block_of
from loihi_mmfree.net.artifact import Net, Placed
from loihi_mmfree.place.placer import Request, place
from loihi_mmfree.report.document import Report
from loihi_mmfree.report.pages.activity import activity_context
from loihi_mmfree.report.pages.page import report_page

ReadPage = Callable[[str], Any]


def test_a_report_without_recorded_activity_says_so_first(reported: str) -> None:
    assert reported.index("No activity is recorded") < reported.index("<h2>")


def test_a_report_of_recorded_activity_shows_its_zeros_by_layer(
    tiny_net: Net, report: Report, read_page: ReadPage
) -> None:
    key = "layers.1.attn.o_proj.norm.scale:o_proj"
    half = {**report.activity.messages, key: report.activity.messages[key] // 2}
    recorded = replace(report, recorded=True, activity=replace(report.activity, messages=half, origin="a run"))
    text = read_page(report_page(recorded, tiny_net)).text
    assert "layers.1 0.0% 0.0% 0.0% 50.0% 0.0% 0.0%" in text
    assert "recorded activity (a run, 1 token)" in text


def test_every_block_with_neurons_has_a_row_of_activity_in_the_order_of_the_graph(
    tiny_net: Net, reported: str
) -> None:
    blocks = dict.fromkeys(block_of(node.name) for node in tiny_net.graph if isinstance(node, NeuronGroup))
    names = [row[0].removesuffix(" (host)") for row in activity_rows(reported)]
    assert names == list(blocks)
    assert names[0] == "embeddings"


def test_blocks_that_the_host_computes_are_marked_in_activity(tiny_net: Net, report: Report) -> None:
    for head, name in (("host", "lm_head (host)"), ("chip", "lm_head")):
        context = activity_context(report, placed_anew(tiny_net, head))
        assert context["activity"].rows[-1].cells[0] == name
        assert ("the model leaves it out" in context["activity_text"]) == (head == "host")


@pytest.mark.parametrize("head", ["host", "chip"])
def test_rows_of_activity_on_chip_add_up_to_what_is_counted_by_token(
    tiny_net: Net, report: Report, head: str
) -> None:
    net = placed_anew(tiny_net, head)
    outputs = len(report.activity.messages)
    counts = np.arange(2 * outputs, dtype=np.int32).reshape(2, outputs) + 1
    recorded = recorded_activity(tiny_net.graph, counts)
    by_token = on_chip_activity(net.graph, net.placed.placement, recorded)
    page = report_page(replace(report, recorded=True, activity=recorded), net)
    rows = [row for row in activity_rows(page) if "(host)" not in row[0]]
    for column, what in ((-3, "messages"), (-2, "synaptic_operations")):
        shown = sum(int(row[column].replace(",", "")) for row in rows)
        assert shown == pytest.approx(by_token[what].mean(), abs=len(rows))


def test_a_report_of_recorded_activity_plots_it_over_tokens(
    tiny_net: Net, report: Report, read_page: ReadPage
) -> None:
    outputs = len(report.activity.messages)
    table = np.arange(300 * outputs, dtype=np.int32).reshape(300, outputs)
    operations, saturations = np.linspace(2e6, 3e6, 300), np.zeros(300, dtype=np.int64)
    nodes = counting_nodes(tiny_net.graph)
    row = [7, nodes.index("layers.1.attn.mlgru"), 1234, 0]
    recorded = replace(
        report,
        recorded=True,
        activity=recorded_activity(tiny_net.graph, table, [row]),
        per_token={"messages": table.sum(axis=1), "synaptic_operations": operations, "saturations": saturations},
    )
    page = read_page(report_page(recorded, tiny_net))
    assert page.open == []
    assert page.misplaced == []
    assert "synaptic operations least 2,000,000, median 2,500,000, greatest 3,000,000" in page.text
    assert re.search(r"layers\.1 [^a-z]* 1,234 ", page.text)
    labels = [each.get("aria-label") or "" for each in page.all("svg")]
    assert any("millions over token: least 2.00, greatest 3.00" in each for each in labels)
    assert any("saturations over token: least 0, greatest 0" in each for each in labels)


def test_a_report_of_one_token_has_no_plot_over_tokens(tiny_net: Net, report: Report) -> None:
    assert "Activity of each token" not in report_page(report, tiny_net)


def recorded_activity(graph: Graph, sent: np.ndarray, incidents: Sequence[list[int]] = ()) -> Activity:
    """What a recorder makes of the messages [T, outputs] of a run and of its incidents."""
    recorder = ActivityRecorder(graph)
    assert recorder.observer.counts is not None
    recorder.observer.counts(sent, np.array(incidents, dtype=np.int32).reshape(-1, 4))
    return recorder.activity()


def placed_anew(net: Net, head: str) -> Net:
    """The same network with its head somewhere else."""
    system = net.placed.chip
    copy = replace(net)
    vars(copy)["placed"] = Placed(system, place(net.graph, system, Request(weight_bits=8, head=head)))
    return copy


def activity_rows(page: str) -> list[list[str]]:
    """The cells of the table of activity, without markup."""
    part = page[page.index('aria-label="Activity per layer"') :].split("</table>")[0].split("<tbody>")[1]
    rows = (re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row) for row in part.split("</tr>"))
    return [[re.sub("<[^>]*>", "", cell).strip() for cell in row] for row in rows if row]

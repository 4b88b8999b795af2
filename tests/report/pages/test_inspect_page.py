"""The page of `inspect`: the numbers of the summary, the cores, the figures of the system."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.traffic import Traffic, traffic
from loihi_mmfree.report.pages import chip_map
from loihi_mmfree.report.pages.page import inspect_page
from loihi_mmfree.report.summary import Summary

ReadPage = Callable[[str], Any]


def test_the_page_holds_the_numbers_of_the_summary(
    inspected: str, tiny_net: Net, summary: Summary, read_page: ReadPage
) -> None:
    text = read_page(inspected).text
    moved = traffic(tiny_net.graph, tiny_net.placed.chip, tiny_net.placed.placement)
    fullest = summary.fullest_cores[0]
    for number in (
        f"{summary.neurons:,}",
        f"{summary.depth_steps} steps",
        f"{summary.activation_bits} bit",
        f"on {summary.head}",
        f"{fullest.load:.1%}",
        f"{moved.sent:,.0f}",
        *(f"{block.synapses:,}" for block in summary.blocks),
    ):
        assert number in text


def test_every_core_has_a_square_and_a_row(inspected: str, summary: Summary, read_page: ReadPage) -> None:
    page = read_page(inspected)
    rows = {each.get("id") for each in page.all("tr")}
    squares = {each["href"] for each in page.all("a")}
    assert len(squares) == summary.cores_used
    assert {f"core-{core.chip}-{core.core}" for core in summary.cores} <= rows


def test_every_figure_of_the_system_is_shown_with_source_and_confidence(
    inspected: str, tiny_net: Net, read_page: ReadPage
) -> None:
    text = read_page(inspected).text
    for figure in tiny_net.placed.chip.figures().values():
        assert " ".join(f"{figure.value:,} {figure.unit} {figure.confidence} {figure.source}".split()) in text


def test_cores_that_links_lead_to_are_listed_under_heads_that_stay(inspected: str) -> None:
    for part in inspected.split('<div class="')[1:]:
        (kind,) = re.findall('^[^"]*', part)
        if kind.startswith("scroll"):
            linked = '<tr id="' in part.split("</table>")[0]
            assert ("linked" in kind.split()) == linked
    assert re.search(r"\.scroll\.linked thead th \{ position: sticky; top: 0;", inspected)


def test_the_same_network_gives_the_same_page(
    inspected: str, tiny_net: Net, summary: Summary, moved: Traffic
) -> None:
    assert inspect_page(tiny_net, summary, moved) == inspected


def test_a_scale_of_ten_shades_shows_a_little_as_more_than_nothing() -> None:
    assert [chip_map.level(share) for share in (0, 1e-6, 0.1, 0.11, 1.0)] == [0, 1, 1, 2, 10]


def test_too_many_cores_are_shown_by_the_chip(
    tiny_net: Net, summary: Summary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chip_map, "MOST_CORES", 0)
    moved = traffic(tiny_net.graph, tiny_net.placed.chip, tiny_net.placed.placement)
    many = tuple(replace(core, chip=chip, core=0) for chip, core in enumerate(summary.cores))
    chips = tuple(replace(summary.chips[0], chip=chip) for chip in range(len(many)))
    maps = chip_map.chip_map(tiny_net, replace(summary, cores=many, chips=chips, chips_used=len(many)), moved)
    assert maps.system is not None
    assert len(maps.system.cells) == len(many)
    assert len(maps.chips) <= 3

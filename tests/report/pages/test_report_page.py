"""The page of `report`: its numbers, as the commands print them, with range, origin and source."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from loihi_mmfree.cost.model import PHASES, stage_seconds
from loihi_mmfree.cost.parameters import load_parameters
from loihi_mmfree.cost.published import load_published
from loihi_mmfree.cost.quantity import format_number, with_unit
from loihi_mmfree.cost.workload import CoreLoad
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.report.document import NOT_MODELLED, Report
from loihi_mmfree.report.pages.page import report_page
from loihi_mmfree.report.pages.tables import prose

ReadPage = Callable[[str], Any]


def test_the_results_are_shown_with_range_and_origin(reported: str, report: Report, read_page: ReadPage) -> None:
    text = read_page(reported).text
    for phase in PHASES:
        each = report.quantity(phase, "tokens_per_s", "tokens/s")
        low, high = map(format_number, each.inputs["range"])
        assert f"{format_number(each.value)} tokens/s modelled; {low} to {high} tokens/s" in text


def test_every_published_figure_is_in_the_plots_marked_as_published(
    reported: str, report: Report, read_page: ReadPage
) -> None:
    labels = read_page(reported).text
    for row in report.comparison:
        if row.tokens is None and "370M" not in row.model:
            continue  # of another size, in the tables only
        for value in filter(None, (row.generate_tokens_per_s, row.prefill_millijoules)):
            at = ", at no stated length" if row.tokens is None else f" at {row.tokens:,}"
            assert re.search(rf"{value.source}[a-z ]*: {re.escape(format_number(value.value) + at)}", labels)


def test_what_accelerators_leave_out_stands_beside_them_with_lanes_and_source(
    reported: str, report: Report, read_page: ReadPage
) -> None:
    text = read_page(reported).text
    accelerators = report.published.accelerators
    assert {each.hardware.split(", ")[1] for each in accelerators} == {"ternip", "TerEffic"}
    for each in accelerators:
        lanes = "-" if each.lanes is None else str(each.lanes)
        assert f"{each.hardware} {each.model} {lanes} {each.leaves_out} {each.citation}" in text


def test_the_colours_of_the_sweep_are_explained(reported: str) -> None:
    key = reported.split("<h2>What other settings would do</h2>")[1].split("</ul>")[0]
    for kind, words in (
        ("dot best", "a choice than which none is faster for less energy"),
        ("dot hollow choice", "another choice"),
        ("dot hollow hypothetical", "hypothetical"),
    ):
        assert re.search(f'class="{kind}"[^/]*></circle></svg>{words}', key)


def test_every_parameter_is_shown_with_confidence_and_source(
    reported: str, report: Report, read_page: ReadPage
) -> None:
    text = read_page(reported).text
    for parameter in report.parameters.named().values():
        span = with_unit(f"{parameter.low:g} to {parameter.high:g}", parameter.unit)
        assert " ".join(f"{span} {parameter.confidence} {parameter.source}".split()) in text
    assert all(each in text for each in NOT_MODELLED)


def test_the_first_tables_are_unfolded_and_the_others_only_in_print(tiny_net: Net, report: Report) -> None:
    counts = {"messages": np.array([1, 2])}
    for each, number in ((report, 2), (replace(report, recorded=True, per_token=counts), 3)):
        text = report_page(each, tiny_net)
        opened = re.findall(r"<details open>\s*<summary>([^<]*)", text)
        assert [name.split()[0].rstrip(",") for name in opened] == ["net", "Zeros", "Activity"][:number]
        assert "<summary>Sessions" in text
        printed = text[text.rindex("@media print", 0, text.index("details::details-content")) :]
        assert "details::details-content { content-visibility: visible; display: block; }" in printed


def test_a_source_goes_under_its_row_on_a_narrow_screen(reported: str) -> None:
    assert '<table class="noted" style="--between: 3">' in reported
    # Two texts: what is left out, and the citation.
    assert '<table class="noted" style="--between: 2">' in reported
    noted = len(load_parameters().named()) + 2 * len(load_published().accelerators)
    assert reported.count('<td class="wide note">') == noted


def test_places_are_counted_in_words(tiny_net: Net, report: Report, read_page: ReadPage) -> None:
    assert " 1 chip of loihi2;" in read_page(report_page(report, tiny_net)).text
    board = {"system_name": "kapoho-point", "chips_used": 3, "board_chips": 8}
    placed = replace(report, about={**report.about, **board})
    assert " 3 of 8 chips of kapoho-point;" in read_page(report_page(placed, tiny_net)).text


def test_the_energy_of_a_board_has_a_card_where_one_is_meant(
    tiny_net: Net, report: Report, read_page: ReadPage
) -> None:
    board = replace(report, workload=replace(report.workload, board_chips=8))
    energy = board.board_energy("generate")
    assert energy is not None
    card = f"generating: energy a token, whole board {format_number(energy.value)} mJ modelled"
    assert card in read_page(report_page(board, tiny_net)).text
    assert "whole board" not in report_page(report, tiny_net).split("<main>")[0]


def test_a_part_of_the_time_too_small_to_be_seen_is_not_in_the_key(tiny_net: Net, report: Report) -> None:
    phase = replace(report.prediction.generate, shares={"synapses": 0.996, "neurons": 0.004})
    page = report_page(
        replace(report, prediction=replace(report.prediction, prefill=phase, generate=phase)), tiny_net
    )
    assert "</i>synapses</li>" in page
    assert "</i>neurons</li>" not in page


def test_a_stage_has_the_same_colour_on_every_page(tiny_net: Net, report: Report) -> None:
    stages = [*stage_seconds(CoreLoad(), report.parameters), "links", "barrier"]

    def colours(names: Sequence[str]) -> dict[str, str]:
        phase = replace(report.prediction.generate, shares={name: 1 / len(names) for name in names})
        prediction = replace(report.prediction, prefill=phase, generate=phase)
        page = report_page(replace(report, prediction=prediction), tiny_net)
        return {name: colour for colour, name in re.findall(r"--(k\d)\)\"></i>([a-z ]+)</li>", page)}

    every = colours(stages)
    assert len(set(every.values())) == len(stages)
    for name in stages:
        assert colours([name]) == {name: every[name]}


def test_commands_in_a_text_are_code(reported: str) -> None:
    assert re.search("<code><span>loihi-mmfree</span> <span>run</span> .*<span>--activity</span></code>", reported)
    assert "`" not in reported
    assert prose("`a<b` and <i>").text == "<code><span>a&lt;b</span></code> and &lt;i&gt;"


def test_a_report_without_a_sweep_has_no_plot_of_one(tiny_net: Net, report: Report) -> None:
    assert "What other settings would do" not in report_page(replace(report, sweep=()), tiny_net)

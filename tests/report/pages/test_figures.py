"""Plots: axes, labels, and what is drawn of the data."""

from __future__ import annotations

import re

import pytest

from loihi_mmfree.loihi2.hardware import LOIHI2
from loihi_mmfree.place.traffic import LinkTraffic, Traffic
from loihi_mmfree.report.pages.figures import Axis, Bin, ParetoPoint, Span, bins_plot, pareto_plot, span_plot
from loihi_mmfree.report.pages.link_map import link_map
from loihi_mmfree.report.pages.svg import element


def test_links_to_other_chips_are_stubs_that_point_outward() -> None:
    # Of a mesh of 16 columns: router 15 is the last of the first row, and joins router 0 of the next chip.
    links = (
        LinkTraffic((0, 14), (0, 15), 4.0),
        LinkTraffic((0, 15), (1, 0), 8.0),
        LinkTraffic((1, 0), (1, 1), 1.0),
    )
    drawn = link_map(LOIHI2, Traffic(8, (), links, 0.0, 0.0), chip=0).text
    lines = re.findall(r'<line class="link l(\d+)" x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)"', drawn)
    assert [int(shade) for shade, _, _ in lines] == [5, 10]
    inner, stub = ((float(first), float(last)) for _, first, last in lines)
    assert inner[0] < inner[1] == stub[0] < stub[1]


def test_a_logarithmic_axis_puts_equal_factors_at_equal_distances() -> None:
    axis = Axis(1.0, 100.0, 0.0, 200.0)
    assert [axis.at(value) for value in (1.0, 10.0, 100.0)] == pytest.approx([0.0, 100.0, 200.0])
    assert axis.ticks == [1, 2, 5, 10, 20, 50, 100]


def test_the_name_of_an_axis_lies_beside_its_labels() -> None:
    drawn = bins_plot("a", "token", "messages", [Bin(n, 33e3, 34e3, 35e3) for n in (1, 2)]).text
    ends = [(float(x), label) for x, label in re.findall(r'x="([\d.]+)"[^>]*text-anchor="end">([\d,]+)<', drawn)]
    assert (max(label for _, label in ends)) == "35,000"
    assert all(x - 7 * len(label) > 16 for x, label in ends)


@pytest.mark.parametrize("reach", [1.011, 1.05, 1.2, 1.4, 1.6, 2.5, 4.0, 9.0, 80.0])
def test_an_axis_of_factors_names_at_least_three(reach: float) -> None:
    drawn = span_plot("speed", [Span("barrier", 1 / reach, reach)]).text
    assert 3 <= len(re.findall(r">×[\d.]+</text>", drawn)) <= 7


def test_a_plot_of_parameters_none_of_which_matters_says_so() -> None:
    drawn = span_plot("speed", [Span("barrier", 0.9999, 1.005), Span("hop", None, None)]).text
    assert ">none moves it by 1 %</text>" in drawn
    assert "hop" not in drawn


def test_hypothetical_choices_look_different() -> None:
    drawn = pareto_plot(
        "a", "x", "y", [ParetoPoint(1, "real", 1, 1, True), ParetoPoint(2, "zeros", 2, 0.5, False, True)]
    ).text
    assert re.findall('class="(dot[^"]*)"', drawn) == ["dot hollow c5", "dot c7"]


def test_an_end_without_a_fit_is_said_and_not_drawn() -> None:
    drawn = span_plot("speed", [Span("barrier", None, 1.2)]).text
    assert "barrier: no fit to ×1.2" in drawn
    assert drawn.count("<circle") == 1


def test_what_is_written_into_a_drawing_is_escaped() -> None:
    assert element("text", "a<b", x=1.234, class_='"').text == '<text x="1.23" class="&quot;">a&lt;b</text>'

"""Plots: axes, labels, and what is drawn of the data."""

from __future__ import annotations

import re
from itertools import combinations
from math import dist

import pytest

from loihi_mmfree.loihi2.hardware import LOIHI2
from loihi_mmfree.place.traffic import LinkTraffic, Traffic
from loihi_mmfree.report.pages.figures import (
    SHAPES,
    Axis,
    Bin,
    ParetoPoint,
    Series,
    Span,
    bins_plot,
    label_places,
    pareto_plot,
    sample,
    series_plot,
    span_plot,
)
from loihi_mmfree.report.pages.link_map import link_map
from loihi_mmfree.report.pages.page import COLOURS
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
    assert re.findall('class="(dot[^"]*)"', drawn) == ["dot hollow hypothetical", "dot best"]


def test_numbers_of_points_that_nearly_coincide_lie_apart() -> None:
    points = [(100.0 + 0.7 * n, 100.0 - 0.4 * n) for n in range(9)] + [(95.0, 18.0), (437.0, 250.0)]
    area = (62.0, 26.0, 440.0, 256.0)
    places = label_places(points, area)
    # A number of two digits is 15 wide and 9 high at 11.5 pixels.
    for (x, y), (other_x, other_y) in combinations(places, 2):
        assert abs(x - other_x) > 15 or abs(y - other_y) > 9
    assert all(dist(place, point) > 9 for place in places for point in points)
    assert all(area[0] < x < area[2] and area[1] < y < area[3] for x, y in places)


def test_a_number_far_from_its_point_is_led_to_it() -> None:
    alone, crowd = ([ParetoPoint(n, "a", 1 + 0.001 * n, 1, False) for n in range(many)] for many in (1, 9))
    spread = ParetoPoint(99, "far", 9, 9, False)
    assert "leader" not in pareto_plot("a", "x", "y", [*alone, spread]).text
    assert "leader" in pareto_plot("a", "x", "y", [*crowd, spread]).text


def test_every_series_has_a_marker_and_a_colour_of_its_own() -> None:
    series = [Series(str(n), "published measurement", n, ((1, 1), (2, 2))) for n in range(len(SHAPES))]
    samples = [re.sub(r'class="[^"]*"', "", sample(each).text) for each in series]
    assert len(set(samples)) == len(series)
    classes = [re.findall(r'class="(dot[^"]*)"', sample(each).text)[0] for each in series]
    assert len(set(classes)) == len(series) <= COLOURS


def test_a_published_estimate_is_hollow_and_a_measurement_is_not() -> None:
    assert "hollow" in sample(Series("a", "published estimate", 1)).text
    assert "hollow" not in sample(Series("a", "published measurement", 1)).text


def test_what_is_published_at_no_length_is_a_level_line() -> None:
    series = [Series("a", "modelled", 0, ((500, 1), (8000, 2))), Series("b", "published figure", 1, level=3)]
    drawn = series_plot("a", "tokens", "mJ", series, [500, 8000]).text
    (line,) = re.findall(r'd="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)" class="curve c2 dashed level"', drawn)
    assert line[1] == line[3]
    assert float(line[2]) - float(line[0]) > 300
    assert "b, published figure: 3.00, at no stated length" in drawn


def test_an_end_without_a_fit_is_said_and_not_drawn() -> None:
    drawn = span_plot("speed", [Span("barrier", None, 1.2)]).text
    assert "barrier: no fit to ×1.2" in drawn
    assert drawn.count("<circle") == 1


def test_what_is_written_into_a_drawing_is_escaped() -> None:
    assert element("text", "a<b", x=1.234, class_='"').text == '<text x="1.23" class="&quot;">a&lt;b</text>'

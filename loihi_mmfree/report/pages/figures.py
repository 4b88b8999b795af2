"""The plots of the report, as drawings with a text for those who do not see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, cos, dist, floor, log10, radians, sin

from loihi_mmfree.cost.quantity import format_number
from loihi_mmfree.report.pages.svg import Html, drawing, element, path

WIDTH, HEIGHT = 440.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 14.0, 26.0, 44.0
_CHARACTER = 7.4
"""Width of a digit in the labels, at most."""
_RADIUS = 4.5
_FAR = 16.0
"""A number farther from its point than this is led to it by a line."""
Point = tuple[float, float]
LEAST_REACH = 1.01
"""Parameters that move a result by less are left out of its plot."""
_FACTORS = (
    (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    (0.5, 0.7, 1.0, 1.4, 2.0),
    (0.8, 0.9, 1.0, 1.1, 1.25),
    (0.95, 1.0, 1.05),
)
"""What an axis of factors may name, the coarsest first; of the last, three lie within any axis."""
LINES = {
    "modelled": "solid",
    "published measurement": "dashed",
    "published figure": "dashed",
    "published estimate": "dotted",
}
"""What a line says about where it comes from; markers of estimates are hollow."""
_CORNERS: dict[str, tuple[tuple[float, float], ...]] = {
    "diamond": ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "triangle up": ((0, -1.3), (1.3, 1), (-1.3, 1)),
    "triangle down": ((0, 1.3), (1.3, -1), (-1.3, -1)),
    "triangle right": ((1.3, 0), (-1, 1.3), (-1, -1.3)),
    "pentagon": ((0, -1.35), (1.28, -0.42), (0.79, 1.09), (-0.79, 1.09), (-1.28, -0.42)),
    "cross": (
        (-1.3, -0.5), (-0.5, -0.5), (-0.5, -1.3), (0.5, -1.3), (0.5, -0.5), (1.3, -0.5),
        (1.3, 0.5), (0.5, 0.5), (0.5, 1.3), (-0.5, 1.3), (-0.5, 0.5), (-1.3, 0.5),
    ),
    "hourglass": ((-1.2, -1.2), (1.2, -1.2), (-1.2, 1.2), (1.2, 1.2)),
}  # fmt: skip
"""Corners of a marker around its point, in its radius."""
SHAPES = ("diamond", "circle", "square", "triangle up", "triangle down", "pentagon", "cross", "hourglass",
          "triangle right")  # fmt: skip
"""Markers that are told apart without colour, this network's first."""


@dataclass(frozen=True)
class Series:
    """Points of one system over sequence lengths, or one value at no stated length.

    Parameters
    ----------
    name : str
    origin : str
        A key of LINES.
    number : int
        From 0: of its marker among SHAPES and of its colour on the page.
    points : tuple of (float, float)
    level : float, optional
        Drawn across the whole plot.
    """

    name: str
    origin: str
    number: int
    points: tuple[tuple[float, float], ...] = ()
    level: float | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """What is drawn, without the lengths."""
        return tuple(value for _, value in self.points) if self.level is None else (self.level,)

    @property
    def curve(self) -> str:
        """Classes of its line."""
        return f"curve c{self.number + 1} {LINES[self.origin]}{'' if self.level is None else ' level'}"


@dataclass(frozen=True)
class ParetoPoint:
    """A numbered point of the Pareto plot; `best` if no other choice is better in both, `hypothetical` if it is
    none."""

    number: int
    name: str
    x: float
    y: float
    best: bool
    hypothetical: bool = False


@dataclass(frozen=True)
class Span:
    """What a parameter at each end of its range multiplies a result by; None where nothing fits."""

    name: str
    low: float | None
    high: float | None

    @property
    def reach(self) -> float:
        """The larger of the two, whether it multiplies or divides; 1 if nothing moves."""
        return max((max(end, 1 / end) for end in (self.low, self.high) if end), default=1.0)


@dataclass(frozen=True)
class Bin:
    """Neighbouring values as one: where they lie on the x axis, and their least, mean and greatest."""

    x: float
    least: float
    mean: float
    greatest: float


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis from `low` to `high`, drawn from one coordinate to another."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the coordinate of a value."""
        return self.start + (self.end - self.start) * log10(value / self.low) / log10(self.high / self.low)

    @property
    def ticks(self) -> list[float]:
        """The values that are written: decades, and their parts if there are few decades."""
        decades = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        parts = (1.0,) if log10(self.high / self.low) > 2.5 else (1.0, 2.0, 5.0)
        values = [part * 10.0**decade for decade in decades for part in parts]
        return [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]


@dataclass(frozen=True)
class LinearAxis:
    """An axis from `low` to `high`, drawn from one coordinate to another."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the coordinate of a value."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[float]:
        """The values that are written: at most eight round ones."""
        length = self.high - self.low
        decade = 10.0 ** floor(log10(length))
        step = next(part * decade for part in (0.2, 0.5, 1.0, 2.0) if length / (part * decade) < 8)
        return [step * number for number in range(ceil(self.low / step), floor(self.high / step) + 1)]


def axis(values: Sequence[float], start: float, end: float, room: float = 1.4) -> Axis:
    """Return an axis that holds positive values, with some room at both ends."""
    return Axis(min(values) / room, max(values) * room, start, end)


def series_plot(title: str, x_name: str, y_name: str, series: Sequence[Series], x_ticks: Sequence[float]) -> Html:
    """Draw lines over an x axis that is labelled where the data are; both axes are logarithmic."""
    y = axis([value for each in series for value in each.values], HEIGHT - _BOTTOM, _TOP)
    x = axis(x_ticks, _left(y), WIDTH - _RIGHT)
    parts = _frame(x, y, x_ticks, x_name, y_name)
    for each in series:
        if each.level is not None:
            height = y.at(each.level)
            parts.append(element("path", d=path([(x.start, height), (x.end, height)]), class_=each.curve))
            # At the end, where no length is named.
            label = f"{each.name}, {each.origin}: {format_number(each.level)}, at no stated length"
            parts.append(marker(each, x.end - 10, height, label))
            continue
        points = [(x.at(first), y.at(second)) for first, second in each.points]
        parts.append(element("path", d=path(points), class_=each.curve))
        for (first, second), (horizontal, vertical) in zip(each.points, points, strict=True):
            label = f"{each.name}, {each.origin}: {format_number(second)} at {first:,.0f}"
            parts.append(marker(each, horizontal, vertical, label))
    described = "; ".join(
        f"{each.name}, {each.origin}: {' '.join(map(format_number, each.values))}" for each in series
    )
    return drawing(WIDTH, HEIGHT, title, f"{y_name} over {x_name}. {described}", [_title(title), *parts])


def bins_plot(title: str, x_name: str, y_name: str, bins: Sequence[Bin]) -> Html:
    """Draw the means of counts as a line, their ranges as a band; the y axis holds little more than these."""
    least, most = min(each.least for each in bins), max(each.greatest for each in bins)
    room = 0.15 * (most - least) or 1.0
    y = LinearAxis(max(0.0, least - room), most + room, HEIGHT - _BOTTOM, _TOP)
    x = LinearAxis(0, bins[-1].x, _left(y), WIDTH - _RIGHT)
    parts = _frame(x, y, x.ticks, x_name, y_name)
    lower, upper, middle = (
        [(x.at(each.x), y.at(getattr(each, name))) for each in bins] for name in ("least", "greatest", "mean")
    )
    parts.append(element("path", d=path([*lower, *reversed(upper)]) + "Z", class_="band best"))
    parts.append(element("path", d=path(middle), class_="curve best"))
    described = f"least {format_number(least)}, greatest {format_number(most)}"
    return drawing(WIDTH, HEIGHT, title, f"{y_name} over {x_name}: {described}", [_title(title), *parts])


def pareto_plot(title: str, x_name: str, y_name: str, choices: Sequence[ParetoPoint]) -> Html:
    """Draw numbered points, those that nothing beats filled and joined, hypothetical ones grey; right and down is
    better."""
    y = axis([each.y for each in choices], HEIGHT - _BOTTOM, _TOP)
    x = axis([each.x for each in choices], _left(y), WIDTH - _RIGHT)
    front = sorted((each.x, each.y) for each in choices if each.best)
    parts = _frame(x, y, x.ticks, x_name, y_name)
    if len(front) > 1:
        points = [(x.at(first), y.at(second)) for first, second in front]
        parts.append(element("path", d=path(points), class_=_FRONT))
    shown = sorted(choices, key=lambda each: each.best)  # the best on top
    places = [(x.at(each.x), y.at(each.y)) for each in shown]
    area = (x.start, _TOP, x.end, HEIGHT - _BOTTOM)
    for each, point, place in zip(shown, places, label_places(places, area), strict=True):
        label = f"{each.number}, {each.name}: {format_number(each.x)} {x_name}, {format_number(each.y)} {y_name}"
        kind = _choice_class(each.best, each.hypothetical)
        if dist(point, place) > _FAR:
            parts.append(element("path", d=path([point, place]), class_="leader"))
        parts.append(element("circle", element("title", label), class_=kind, cx=point[0], cy=point[1], r=_RADIUS))
        parts.append(_word(place[0], place[1] + 4, str(each.number), anchor="middle"))
    described = "; ".join(
        f"{each.name}: {format_number(each.x)} and {format_number(each.y)}{', best' if each.best else ''}"
        for each in choices
    )
    return drawing(
        WIDTH, HEIGHT, title, f"{x_name} and {y_name} of each variation. {described}", [_title(title), *parts]
    )


def span_plot(title: str, spans: Sequence[Span]) -> Html:
    """Draw how far each parameter moves a result, as a factor; hollow at its low end, filled at its high end.

    Those that move it by less than LEAST_REACH are left out; the others are in order, the farthest first.
    """
    spans = sorted((each for each in spans if each.reach >= LEAST_REACH), key=lambda each: -each.reach)
    if not spans:
        nothing = f"none moves it by {100 * (LEAST_REACH - 1):.0f} %"
        return drawing(WIDTH, 46, title, nothing, [_title(title), _word(2, 36, nothing)])
    left, line = 172.0, 20.0
    bottom = _TOP + line * len(spans)
    reach = spans[0].reach * 1.07
    x = Axis(1 / reach, reach, left, WIDTH - _RIGHT)
    shown = ([each for each in row if x.low < each < x.high] for row in _FACTORS)
    factors = next(row for row in shown if len(row) >= 3)
    parts = [_title(title), *(_tick_below(x.at(each), _TOP, bottom, f"×{each:g}") for each in factors)]
    for number, each in enumerate(spans):
        middle = _TOP + line * (number + 0.5)
        parts.append(_word(left - 8, middle + 4, each.name.replace("_", " "), anchor="end"))
        known = [x.at(end) for end in (each.low, each.high) if end is not None]
        parts.append(element("path", d=path([(each, middle) for each in (x.at(1), *known)]), class_="range"))
        for end, kind in ((each.low, "dot hollow c2"), (each.high, "dot c2")):
            if end is not None:
                label = element(
                    "title", f"{each.name} at its {'high' if 'hollow' not in kind else 'low'} end: ×{end:.3g}"
                )
                parts.append(element("circle", label, class_=kind, cx=x.at(end), cy=middle, r=_RADIUS))
    described = "; ".join(f"{each.name}: {_factor(each.low)} to {_factor(each.high)}" for each in spans)
    return drawing(WIDTH, bottom + 22, title, described, parts)


def shares_plot(title: str, shares: Sequence[tuple[str, float, int]]) -> Html:
    """Draw shares (name, 0 to 1, colour) of a whole as one bar."""
    left, height, parts = 0.0, 34.0, []
    for name, share, colour in shares:
        label = element("title", f"{name}: {share:.1%}")
        parts.append(
            element("rect", label, class_=f"share c{colour}", x=left, y=0, width=WIDTH * share, height=height)
        )
        left += WIDTH * share
    described = ", ".join(f"{name} {share:.1%}" for name, share, _ in shares)
    return drawing(WIDTH, height, title, described, parts)


def marker(series: Series, x: float, y: float, label: str) -> Html:
    """Return a point of a series, whose shape and colour are its own; of an estimate it is hollow."""
    hollow = " hollow" if LINES[series.origin] == "dotted" else ""
    kind, text = f"dot{hollow} c{series.number + 1}", element("title", label)
    shape = SHAPES[series.number % len(SHAPES)]
    if shape == "circle":
        return element("circle", text, class_=kind, cx=x, cy=y, r=_RADIUS)
    corners = [(x + _RADIUS * right, y + _RADIUS * down) for right, down in _CORNERS[shape]]
    return element("path", text, class_=kind, d=path(corners) + "Z")


def sample(series: Series) -> Html:
    """Return a marker on a line, for a legend."""
    line = element("path", d="M1 8L31 8", class_=series.curve)
    return _legend(line, marker(series, 16, 8, series.origin))


def choice_sample(best: bool, hypothetical: bool) -> Html:
    """Return a point of the Pareto plot, for its legend."""
    line = [element("path", d="M1 8L31 8", class_=_FRONT)] if best else []
    return _legend(*line, element("circle", class_=_choice_class(best, hypothetical), cx=16, cy=8, r=_RADIUS))


def _legend(*parts: Html) -> Html:
    return element("svg", *parts, viewBox="0 0 32 16", width=32, height=16, aria_hidden="true")


_FRONT = "curve best dashed"


def _choice_class(best: bool, hypothetical: bool) -> str:
    return "dot best" if best else f"dot hollow {'hypothetical' if hypothetical else 'choice'}"


def _frame(
    x: Axis | LinearAxis, y: Axis | LinearAxis, x_ticks: Sequence[float], x_name: str, y_name: str
) -> list[Html]:
    parts = [_tick_below(x.at(each), _TOP, HEIGHT - _BOTTOM, _tick(each)) for each in x_ticks]
    for each in y.ticks:
        height = y.at(each)
        parts.append(element("path", d=path([(x.start, height), (x.end, height)]), class_="grid"))
        parts.append(_word(x.start - 6, height + 4, _tick(each), anchor="end"))
    parts.append(_word((x.start + x.end) / 2, HEIGHT - 8, x_name, anchor="middle"))
    turn = f"rotate(-90 13 {(_TOP + HEIGHT - _BOTTOM) / 2:.0f})"
    parts.append(_word(13, (_TOP + HEIGHT - _BOTTOM) / 2, y_name, anchor="middle", transform=turn))
    return parts


def _left(y: Axis | LinearAxis) -> float:
    """Where a plot begins beside the axis' name and its widest label."""
    return max(_LEFT, 26 + _CHARACTER * max((len(_tick(each)) for each in y.ticks), default=0))


def _tick(value: float) -> str:
    """A round number."""
    return f"{value:,g}"


def _tick_below(x: float, top: float, bottom: float, text: str) -> Html:
    line = element("path", d=path([(x, top), (x, bottom)]), class_="grid")
    return element("g", line, _word(x, bottom + 15, text, anchor="middle"))


def _title(text: str) -> Html:
    return _word(2, 14, text, class_="heading")


def _word(x: float, y: float, text: str, anchor: str = "start", **attributes: str) -> Html:
    return element("text", text, x=x, y=y, text_anchor=anchor, **attributes)


def label_places(points: Sequence[Point], area: tuple[float, float, float, float]) -> list[Point]:
    """Return the middles of the points' numbers: as near as they fit in the plot and lie on nothing.

    Parameters
    ----------
    points : sequence of (x, y)
    area : (left, top, right, bottom)
        Of the plot.
    """
    left, top, right, bottom = area
    taken: list[Point] = []
    for x, y in points:
        around = (
            (x + reach * cos(radians(angle)), y + reach * sin(radians(angle)))
            for reach in range(12, 90, 6)
            for angle in range(-60, 300, 30)
        )
        free = (
            here
            for here in around
            if left + 7 < here[0] < right - 7
            and top + 6 < here[1] < bottom - 6
            and all(dist(here, point) > _RADIUS + 6 for point in points)
            and all(abs(here[0] - a) > 15 or abs(here[1] - b) > 12 for a, b in taken)
        )
        taken.append(next(free, (x, y)))
    return taken


def _factor(value: float | None) -> str:
    return "no fit" if value is None else f"×{value:.3g}"

"""The plots of the report, as drawings with a text for those who do not see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from loihi_mmfree.cost.quantity import format_number
from loihi_mmfree.report.pages.svg import Html, drawing, element, path

WIDTH, HEIGHT = 440.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 14.0, 26.0, 44.0
_CHARACTER = 7.4
"""Width of a digit in the labels, at most."""
_RADIUS = 4.5
LEAST_REACH = 1.01
"""Parameters that move a result by less are left out of its plot."""
_FACTORS = (
    (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    (0.5, 0.7, 1.0, 1.4, 2.0),
    (0.8, 0.9, 1.0, 1.1, 1.25),
    (0.95, 1.0, 1.05),
)
"""What an axis of factors may name, the coarsest first; of the last, three lie within any axis."""
MARKERS = {
    "modelled": "diamond",
    "measured": "square",
    "published measurement": "circle",
    "published estimate": "triangle",
}
"""What a point's shape says about where it comes from."""


@dataclass(frozen=True)
class Series:
    """Points of one system over sequence lengths.

    Parameters
    ----------
    name : str
    origin : str
        A key of MARKERS.
    colour : int
        Number of a colour of the page's categories.
    points : tuple of (float, float)
    """

    name: str
    origin: str
    colour: int
    points: tuple[tuple[float, float], ...]


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
    y = axis([value for each in series for _, value in each.points], HEIGHT - _BOTTOM, _TOP)
    x = axis(x_ticks, _left(y), WIDTH - _RIGHT)
    parts = _frame(x, y, x_ticks, x_name, y_name)
    for each in series:
        points = [(x.at(first), y.at(second)) for first, second in each.points]
        parts.append(element("path", d=path(points), class_=f"curve c{each.colour} {MARKERS[each.origin]}"))
        for (first, second), (horizontal, vertical) in zip(each.points, points, strict=True):
            label = f"{each.name}, {each.origin}: {format_number(second)} at {first:,.0f}"
            parts.append(marker(each.origin, horizontal, vertical, each.colour, label))
    described = "; ".join(
        f"{each.name}, {each.origin}: {' '.join(format_number(second) for _, second in each.points)}"
        for each in series
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
    parts.append(element("path", d=path([*lower, *reversed(upper)]) + "Z", class_="band c7"))
    parts.append(element("path", d=path(middle), class_="curve c7"))
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
        parts.append(element("path", d=path(points), class_="curve c7 circle"))
    taken: list[tuple[float, float]] = []
    for each in sorted(choices, key=lambda each: each.best):  # the best on top
        where = {"cx": x.at(each.x), "cy": y.at(each.y), "r": _RADIUS}
        label = f"{each.number}, {each.name}: {format_number(each.x)} {x_name}, {format_number(each.y)} {y_name}"
        kind = "dot c7" if each.best else f"dot hollow c{5 if each.hypothetical else 1}"
        parts.append(element("circle", element("title", label), class_=kind, **where))
        taken.append(_free_place(where["cx"], where["cy"], taken))
        parts.append(_word(*taken[-1], str(each.number), anchor="middle"))
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
        for end, kind in ((each.low, "dot hollow c1"), (each.high, "dot c1")):
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


def marker(origin: str, x: float, y: float, colour: int, label: str) -> Html:
    """Return a point whose shape tells its origin."""
    r = _RADIUS
    corners = {
        "diamond": [(x, y - 1.4 * r), (x + 1.4 * r, y), (x, y + 1.4 * r), (x - 1.4 * r, y)],
        "square": [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)],
        "triangle": [(x, y - 1.3 * r), (x + 1.2 * r, y + r), (x - 1.2 * r, y + r)],
    }
    kind = f"dot c{colour}"
    text = element("title", label)
    if MARKERS[origin] == "circle":
        return element("circle", text, class_=kind, cx=x, cy=y, r=r)
    return element("path", text, class_=kind, d=path(corners[MARKERS[origin]]) + "Z")


def sample(origin: str, colour: int) -> Html:
    """Return a marker on a line, for a legend."""
    line = element("path", d="M1 8L31 8", class_=f"curve c{colour} {MARKERS[origin]}")
    return element(
        "svg",
        line,
        marker(origin, 16, 8, colour, origin),
        viewBox="0 0 32 16",
        width=32,
        height=16,
        aria_hidden="true",
    )


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


def _free_place(x: float, y: float, taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return where a point's number does not lie on another one: right above, left, right below, or farther."""
    places = [
        (x + 10, y - 5),
        (x - 11, y + 4),
        (x + 10, y + 13),
        (x - 11, y - 10),
        (x + 24, y + 4),
        (x - 25, y + 4),
    ]
    free = (here for here in places if all(abs(here[0] - a) > 12 or abs(here[1] - b) > 11 for a, b in taken))
    return next(free, places[0])


def _factor(value: float | None) -> str:
    return "no fit" if value is None else f"×{value:.3g}"

"""The mesh of one chip: its routers, and what each link carries."""

from __future__ import annotations

from loihi_mmfree.loihi2.hardware import ChipSpec
from loihi_mmfree.place.traffic import LinkTraffic, Position, Traffic
from loihi_mmfree.report.pages.chip_map import level
from loihi_mmfree.report.pages.svg import Html, drawing, element

_SPACING, _ROUTER, _APART, _STUB = 30.0, 5.0, 2.6, 15.0
_MARGIN = 20.0


def busiest_chip(traffic: Traffic) -> int:
    """Return the chip that the busiest link leaves; the first one if nothing travels."""
    busiest = traffic.busiest_link
    return busiest.source[0] if busiest else 0


def link_map(spec: ChipSpec, traffic: Traffic, chip: int) -> Html:
    """Draw the links of a chip, coloured relative to the busiest one of the whole network.

    Parameters
    ----------
    spec : ChipSpec
    traffic : Traffic
    chip : int
        Links that begin or end on it are drawn, those to other chips as stubs.
    """
    most = max((each.messages for each in traffic.links), default=1.0)
    links = [each for each in traffic.links if chip in (each.source[0], each.target[0])]
    rows, columns = spec.mesh_rows.value, spec.mesh_columns.value
    routers = [
        element("circle", cx=_at(n % columns), cy=_at(n // columns), r=_ROUTER, class_="router")
        for n in range(rows * columns)
    ]
    return drawing(
        2 * _MARGIN + (columns - 1) * _SPACING,
        2 * _MARGIN + (rows - 1) * _SPACING,
        f"links of chip {chip}",
        f"{len(links)} links of its mesh carry messages, the busiest link of the network {most:,.0f} a step",
        [*(_link(each, chip, columns, level(each.messages / most)) for each in links), *routers],
    )


def _link(link: LinkTraffic, chip: int, columns: int, shade: int) -> Html:
    """A line on the right-hand side of its direction, so that the two directions lie beside each other."""
    inside = link.source if link.source[0] == chip else link.target
    start = _point(link.source, columns) if link.source[0] == chip else None
    end = _point(link.target, columns) if link.target[0] == chip else None
    outward = _outward(inside, link, columns)
    x, y = _point(inside, columns)
    start = start or (x + _STUB * outward[0], y + _STUB * outward[1])
    end = end or (x + _STUB * outward[0], y + _STUB * outward[1])
    length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    along = ((end[0] - start[0]) / length, (end[1] - start[1]) / length)
    aside = (-along[1] * _APART, along[0] * _APART)
    label = f"{_name(link.source)} to {_name(link.target)}: {link.messages:,.0f} messages a step"
    return element(
        "line",
        element("title", label),
        class_=f"link l{shade}",
        x1=start[0] + aside[0],
        y1=start[1] + aside[1],
        x2=end[0] + aside[0],
        y2=end[1] + aside[1],
    )


def _outward(inside: Position, link: LinkTraffic, columns: int) -> tuple[int, int]:
    """The direction in which a link leaves the chip; neighbouring chips join edge to edge."""
    other = link.target if link.source == inside else link.source
    row, column = divmod(inside[1], columns)
    other_row, other_column = divmod(other[1], columns)
    if row == other_row and column != other_column:
        return (1, 0) if column > other_column else (-1, 0)
    return (0, 1) if row > other_row else (0, -1)


def _point(position: Position, columns: int) -> tuple[float, float]:
    return _at(position[1] % columns), _at(position[1] // columns)


def _at(number: int) -> float:
    return _MARGIN + _SPACING * number


def _name(position: Position) -> str:
    return f"{position[0]}/{position[1]}"

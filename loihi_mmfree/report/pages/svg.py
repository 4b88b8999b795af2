"""Scalable vector graphics as markup: elements whose attributes and text are escaped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Html:
    """Markup that is safe as it stands; templates leave it unescaped."""

    text: str

    def __html__(self) -> str:
        return self.text


def element(tag: str, *children: Html | str, **attributes: str | float) -> Html:
    """Return an element.

    Parameters
    ----------
    tag : str
    children : Html or str
        Texts are escaped.
    attributes : str or float
        `class_` stands for class, `stroke_width` for stroke-width; numbers are rounded to hundredths.
    """
    written = "".join(f' {_name(key)}="{escape(_text(value))}"' for key, value in attributes.items())
    inner = "".join(each.text if isinstance(each, Html) else escape(each) for each in children)
    return Html(f"<{tag}{written}>{inner}</{tag}>")


def drawing(width: float, height: float, title: str, description: str, parts: Iterable[Html]) -> Html:
    """Return a whole drawing with a text for those who do not see it."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *parts,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=f"{title}: {description}",
    )


def path(points: Iterable[tuple[float, float]]) -> str:
    """Return the `d` of a line through points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):g}"

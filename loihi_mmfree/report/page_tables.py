"""What pages are made of: facts, tables and bars, as data for the templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from loihi_mmfree.report.svg import Html

TEXT, WIDE, NUMBER = "text", "wide", ""
"""How a column is set: a short text, a text that may wrap, a number."""


@dataclass(frozen=True)
class Fact:
    """A number that stands out, with its name and a line of detail."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table; `id` is where links lead."""

    cells: tuple[Any, ...]
    id: str = ""


@dataclass(frozen=True)
class Table:
    """A table; columns are (heading, TEXT, WIDE or NUMBER)."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    title: str = ""


def table(
    headings: Sequence[str | tuple[str, str]], rows: Sequence[Row | tuple[Any, ...]], title: str = ""
) -> Table:
    """Return a table; headings without a kind are those of numbers."""
    columns = tuple((each, NUMBER) if isinstance(each, str) else each for each in headings)
    return Table(columns, tuple(each if isinstance(each, Row) else Row(each) for each in rows), title)


def count(value: float) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,.0f}"


def kilobytes(value: float) -> str:
    """Return bytes in units of 1024."""
    return f"{value / 1024:,.1f}"


def megabytes(value: float) -> str:
    """Return bytes with a unit, in powers of 1024."""
    return f"{value / 2**30:,.2f} GB" if value >= 2**30 else f"{value / 2**20:,.2f} MB"


def bar(share: float) -> Html:
    """Return a share of 0 to 1 as a bar; the number stands beside it."""
    return Html(f'<span class="bar" aria-hidden="true"><i style="width:{100 * min(1.0, share):.1f}%"></i></span>')


def grade(confidence: str) -> Html:
    """Return how well a figure is known, as a label."""
    return Html(f'<span class="grade {escape(confidence)}">{escape(confidence)}</span>')

"""What pages are made of: facts, tables and bars, as data for the templates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from loihi_mmfree.options import on_command_line
from loihi_mmfree.report.pages.svg import Html

TEXT, WIDE, NOTE, NUMBER = "text", "wide", "wide note", ""
"""How a column is set, as classes: a short text, a text that may wrap, one that on a narrow screen goes under its
row, a number."""


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
    """A table; columns are (heading, TEXT, WIDE, NOTE or NUMBER); `open` if it can be folded and is not."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    title: str = ""
    open: bool = False


def table(
    headings: Sequence[str | tuple[str, str]],
    rows: Sequence[Row | tuple[Any, ...]],
    title: str = "",
    open: bool = False,
) -> Table:
    """Return a table; headings without a kind are those of numbers."""
    columns = tuple((each, NUMBER) if isinstance(each, str) else each for each in headings)
    return Table(columns, tuple(each if isinstance(each, Row) else Row(each) for each in rows), title, open)


def count(value: float) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,.0f}"


def prose(text: str) -> Html:
    """Return a text as markup, with settings and calls as the command line has them.

    What stands between backticks is code, whose words are not broken.
    """
    shown = escape(on_command_line(text))
    return Html(re.sub("`([^`]+)`", lambda code: f"<code>{_unbroken(code[1])}</code>", shown))


def _unbroken(words: str) -> str:
    return " ".join(f"<span>{word}</span>" for word in words.split())


def bar(share: float) -> Html:
    """Return a share of 0 to 1 as a bar; the number stands beside it."""
    return Html(f'<span class="bar" aria-hidden="true"><i style="width:{100 * min(1.0, share):.1f}%"></i></span>')


def grade(confidence: str) -> Html:
    """Return how well a figure is known, as a label."""
    return Html(f'<span class="grade {escape(confidence)}">{escape(confidence)}</span>')

"""What all commands share: JSON on the last line, progress on stderr, prompts from options."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer

from loihi_mmfree.options import on_command_line

JSON_OPTION = typer.Option(False, "--json", help="Print one JSON document as the last line of stdout.")
_BETWEEN_PIECES = re.compile(r"(?<!\d) +| +(?![^\W\d])")
"""Every space but that between a number and its unit."""
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, marks that turn the direction of writing, halves of characters."""
_GAP = 2
"""Characters between two columns of a printed table."""


def printable(text: str) -> str:
    """Return a text that a terminal shows as it is: what would steer it, or is no character, is written as a code.

    Names in files of others may hold anything.
    """
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def listed(text: str) -> list[str]:
    """Return the parts of an option that is a list separated by commas."""
    return [each.strip() for each in text.split(",")]


def say(text: str, err: bool = False) -> None:
    """Print what the Python interface says, with settings and calls as the command line has them."""
    typer.echo(printable(on_command_line(text)), err=err)


def print_json(document: dict[str, Any]) -> None:
    """Print a document on one line."""
    typer.echo(json.dumps(document, allow_nan=False))


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Give a function (stage, done, total) which shows progress on stderr, if a person is watching."""
    if not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


def print_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table on stdout, whole: what is too wide is folded between words, else lines exceed the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = tuple(map(printable, columns))
    rows = [tuple(map(printable, row)) for row in rows]
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, _GAP - 1, 0, 0),
    )
    terminal = Console().width if sys.stdout.isatty() else 140
    gaps = _GAP * (len(columns) - 1)
    widths = column_widths(list(zip(columns, *rows, strict=True)), terminal - gaps)
    for position, (column, width) in enumerate(zip(columns, widths, strict=True)):
        # Without their sign; a dash stands for no number.
        cells = [row[position].strip("+-") for row in rows]
        numbers = position > 0 and all(not cell or cell[:1].isdigit() for cell in cells)
        heading = Text("\n".join(folded(column, width)))
        table.add_column(heading, justify="right" if numbers else "left", width=width)
    for row in rows:
        table.add_row(*(Text("\n".join(folded(cell, width))) for cell, width in zip(row, widths, strict=True)))
    console = Console(width=max(terminal, sum(widths) + gaps), highlight=False)
    # Beside the table, so that a narrow one does not fold it.
    console.print(Text(printable(title), style="italic"), table, "")


def column_widths(columns: Sequence[Sequence[str]], available: int) -> list[int]:
    """Return widths of columns: headings, then the widest cells are narrowed until all fit, or no word allows it.

    Parameters
    ----------
    columns : sequence of sequence of str
        The heading and the cells of each.
    available : int
        Characters for all of them.
    """
    widths = [max(map(len, cells)) for cells in columns]
    bodies = [max(map(len, cells[1:]), default=0) for cells in columns]
    least = [max(len(piece) for cell in cells for piece in _pieces(cell)) for cells in columns]
    while sum(widths) > available:
        wide = [number for number, width in enumerate(widths) if width > least[number]]
        if not wide:
            break
        widths[max(wide, key=lambda number: (widths[number] > bodies[number], widths[number]))] -= 1
    return widths


def folded(cell: str, width: int) -> list[str]:
    """Return the lines of a cell; a word, and a number with its unit, stay whole even if they are wider."""
    lines: list[str] = []
    for piece in _pieces(cell):
        if lines and len(lines[-1]) + 1 + len(piece) <= width:
            lines[-1] += f" {piece}"
        else:
            lines.append(piece)
    return lines


def _pieces(cell: str) -> list[str]:
    return _BETWEEN_PIECES.split(cell.strip())

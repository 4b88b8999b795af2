"""What all commands share: JSON on the last line, progress on stderr, prompts from options."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer

JSON_OPTION = typer.Option(False, "--json", help="Print one JSON document as the last line of stdout.")


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
    """Print a table on stdout; numbers are expected as text."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for position, column in enumerate(columns):
        numbers = position > 0 and all(
            not row[position] or row[position].strip("+-")[:1].isdigit() for row in rows
        )
        table.add_column(column, justify="right" if numbers else "left", no_wrap=position == 0)
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 140
    Console(width=width, highlight=False).print(table)


def count(number: int, thing: str) -> str:
    """Return a number with what it counts, in the plural where that is due."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")

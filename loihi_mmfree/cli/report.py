"""loihi-mmfree report."""

from __future__ import annotations

from pathlib import Path

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json, print_table, say
from loihi_mmfree.files import require_output, write_whole


def report(
    net: Path = typer.Argument(..., metavar="NET", help="Folder of a compiled network."),
    sweep: bool = typer.Option(
        False, "--sweep", help="Also weight bits, chips, zeros and activation bits: places the network anew."
    ),
    html: Path | None = typer.Option(
        None, "--html", metavar="FILE", help="Write it as one page with plots and the chip map."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say what to expect on Loihi 2: throughput and energy, modelled, beside published measurements."""
    from loihi_mmfree import api

    if html is not None:
        require_output(html, "--html")
    made = api.report(net, sweep=sweep)
    if html is not None:
        write_whole(html, made.html().encode(), "--html")
    for table in made.tables:
        print_table(table.title, table.columns, table.rows)
    for note in made.notes:
        say(note)
    if as_json:
        print_json(made.to_dict())

"""loihi-mmfree vectors."""

from __future__ import annotations

from pathlib import Path

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json, print_table, printable
from loihi_mmfree.text import counted
from loihi_mmfree.units import bytes_text


def vectors(
    net: Path = typer.Argument(..., metavar="NET", help="Folder of a compiled network."),
    output: Path = typer.Option(..., "-o", "--output", metavar="DIR", help="Folder to write; it must be new."),
    node: list[str] = typer.Option(
        [], "--node", metavar="NODE", help="Only this neuron group or projection; may be given several times."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Write what every neuron group and projection must give, to hold an implementation for the chip against."""
    from loihi_mmfree import api

    written = api.vectors(net, output, node)
    rows = [
        (
            each.node,
            each.kind,
            f"{each.size:,}",
            ", ".join(f"{steps} {name}" for name, steps in each.cases.items()),
        )
        for each in written.nodes
    ]
    print_table(str(output), ("node", "kind", "size", "steps"), rows)
    size = sum(each.bytes for each in written.nodes)
    typer.echo(
        printable(
            f"{counted(len(rows), 'node')}, {bytes_text(size)}. Hold yours against them: "
            f"python {output / 'check_vectors.py'} CANDIDATE"
        )
    )
    if as_json:
        print_json(written.to_dict())

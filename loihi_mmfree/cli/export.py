"""loihi-mmfree export."""

from __future__ import annotations

from pathlib import Path

import typer

from loihi_mmfree import defaults
from loihi_mmfree.cli.output import JSON_OPTION, print_json, print_table
from loihi_mmfree.files import require_output


def export(
    net: Path = typer.Argument(..., metavar="NET", help="Folder of a compiled network."),
    output: Path = typer.Option(..., "-o", "--output", metavar="FILE", help="File to write."),
    format: str = typer.Option(
        defaults.EXPORT_FORMAT, "--format", help="netx: the ternary projections, for lava-dl's netx."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Write what other programs can read of a network."""
    from loihi_mmfree import api

    require_output(output, "--output")
    written = api.export(net, output, format=format)
    rows = [
        (str(each.index), each.node, str(each.rows), str(each.columns), str(each.message_bits))
        for each in written.layers
    ]
    print_table(str(output), ("layer", "projection", "rows", "columns", "bits of messages"), rows)
    if as_json:
        print_json(written.to_dict())

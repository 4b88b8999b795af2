"""loihi-mmfree compare."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json, print_table
from loihi_mmfree.errors import MismatchError


def compare(
    net: Path = typer.Argument(..., metavar="NET", help="Folder of a compiled network."),
    checkpoint: Path | None = typer.Option(
        None, "--ckpt", metavar="CKPT", help="Also compare with the checkpoint it came from."
    ),
    lava: bool = typer.Option(True, "--lava/--no-lava", help="Also run the operator graph on Lava."),
    backend: str | None = typer.Option(
        None, "--backend", help="Also compare a backend of `run`: every message if it shows them, and the logits."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Compare float, integers, engine, Lava and others on golden input; name the first message that differs."""
    from loihi_mmfree import api

    found = api.compare(net, checkpoint, lava=lava, backend=backend)
    rows = [
        (stage.name, str(stage.compared), f"{len(stage.differences)} differ" if stage.differences else "equal")
        for stage in found.stages
    ]
    print_table("Exact comparisons", ("what", "compared", "result"), rows)
    if found.deviations:
        relative = [(each.where, f"{each.relative:.2e}") for each in found.deviations]
        print_table("Integers against real arithmetic", ("where", "relative error"), relative)
    if as_json:
        print_json({"equal": found.equal, **dataclasses.asdict(found)})
    if not found.equal:
        first = [f"{stage.name}: first {stage.differences[0]}" for stage in found.stages if stage.differences]
        raise MismatchError(f"{net} differs:\n  " + "\n  ".join(first))

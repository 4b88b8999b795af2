"""loihi-mmfree emit."""

from __future__ import annotations

from pathlib import Path

import typer

from loihi_mmfree import defaults
from loihi_mmfree.cli.output import JSON_OPTION, print_json, printable


def emit(
    net: Path = typer.Argument(..., metavar="NET", help="Folder of a compiled network."),
    output: Path = typer.Option(..., "--output", "-o", metavar="DIR", help="Folder to write."),
    weights_per_cycle: int = typer.Option(
        defaults.WEIGHTS_PER_CYCLE, "--weights-per-cycle", help="32, 64, 128 or 256 ternary weights a cycle."
    ),
    lanes: int = typer.Option(defaults.LANES, "--lanes", help="4, 8, 16 or 32 neurons a cycle."),
    force: bool = typer.Option(False, "--force", help="Replace a core that is there."),
    check: bool = typer.Option(
        False, "--check", help="Write nothing: hold the core that is there against its hashes and the network."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Write the network as hardware: Verilog, programs, weights, a listing, and a manifest with hashes."""
    from loihi_mmfree import api

    if check:
        api.check_core(net, output)
        typer.echo(f"{printable(str(output))}: whole, and the core of {printable(str(net))}")
        return
    made = api.emit(net, output, weights_per_cycle=weights_per_cycle, lanes=lanes, force=force)
    found = made.timing
    typer.echo(
        f"{printable(str(output))}: {weights_per_cycle} weights a cycle, {lanes} lanes; {found.cycles} cycles a "
        f"token, {found.blocks_cycles} without the head; weights are taken in {found.utilisation:.0%} of these "
        "(by the formula that is held against RTL simulation)"
    )
    if as_json:
        print_json(dict(made.manifest))

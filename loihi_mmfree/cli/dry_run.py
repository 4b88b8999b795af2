"""run --dry-run: what a run on the chip would find, as tables of the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from loihi_mmfree.cli.output import print_json, print_table, say
from loihi_mmfree.errors import BackendUnavailableError
from loihi_mmfree.text import counted

if TYPE_CHECKING:
    from loihi_mmfree.sim.session.chip import DryRun


def print_dry_run(net: Path, found: DryRun, as_json: bool) -> None:
    """Print what is there and what is not, with where to look for each role.

    Raises
    ------
    BackendUnavailableError
        Something is missing.
    """
    rows = [
        (each.role, str(each.groups), str(each.programs), each.model or "-", each.problem or "ok", each.example)
        for each in found.roles
    ]
    print_table(str(net), ("role", "groups", "programs", "model", "state", "for example"), rows)
    typer.echo(
        f"placement: {counted(found.cores, 'core')} on {counted(found.chips, 'chip')} of {found.system}, "
        f"{found.depth_steps} time steps from token to logits"
    )
    say(f"runner: {found.runner or found.runner_problem}")
    say(f"extension: {found.extension or 'nothing is missing'}")
    say(f"board: {found.host}{f': {found.host_problem}' if found.host_problem else ''}")
    unwritten = [each for each in found.roles if not each.model]
    for each in unwritten:
        listing = f"loihi-mmfree inspect {net} --program {each.example}"
        vectors = f"loihi-mmfree vectors {net} -o vectors-{each.role} --node {each.example}"
        say(f"{each.role}: listing by `{listing}`, vectors by `{vectors}`")
    if found.ready:
        typer.echo("Everything is there: without the dry run, the runner would ask for a board now.")
    if as_json:
        print_json(found.to_dict())
    if not found.ready:
        raise BackendUnavailableError(
            f"backend loihi2: {counted(len(found.problems), 'thing')} to mend before a board can be asked for, as "
            "said above"
        )

"""What a board took, as tables of the terminal: beside it what the model says and what the engine counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from loihi_mmfree.cli.output import print_table, say
from loihi_mmfree.text import counted

if TYPE_CHECKING:
    from loihi_mmfree.api import Profile

_ROWS = {
    "latency_seconds": "time",
    "tokens_per_s": "throughput",
    "millijoules_per_token": "energy a token",
    "total_energy_joules": "energy",
    "static_energy_joules": "static energy",
    "dynamic_energy_joules": "dynamic energy",
    "static_power_baseline_watts": "power of the idle board",
}
"""Fields of the document, whose names hold their unit, as rows whose cells do."""
_HELD_AGAINST = {"message_copies_out": "messages_out"}
"""The board has one count of messages out, and whether it counts copies is not known: it stands in both rows."""


def print_profile(measured: Profile) -> None:
    """Print tables on stdout, and what to know about them on stderr."""
    document, run, expected = measured.to_dict(), measured.run, measured.expected
    read = f"{counted(run.prompt_tokens, 'prompt token')} and {counted(run.new_tokens_read, 'new one')} read"
    print_table(
        f"{read}, on the {measured.scope.partition(',')[0]}",
        ("quantity", "measured", "modelled"),
        _quantities(document),
    )
    print_table(
        "Activity of a token, all cores",
        ("events", "measured", "expected", "ratio"),
        _events(document["activity"]),
    )
    inputs = expected.inputs
    same = {True: " of the very ids read here", False: " of other ids", None: ""}[measured.same_ids]
    typer.echo(
        f"modelled: energy of the {expected.scope}; activity {inputs['activity']}, "
        f"{counted(inputs['activity_tokens'], 'token')}{same}; {inputs['placement']}",
        err=True,
    )
    if expected.per_token:
        typer.echo(
            "messages out: messages or copies, which is not known; the board's one count stands in both rows",
            err=True,
        )
    else:
        typer.echo(
            'notice: nothing to hold the activity against; `loihi-mmfree run NET --prompt "..." --backend engine '
            "--activity` records it",
            err=True,
        )
    for flag in measured.flags:
        say(f"notice: {flag}", err=True)


def _quantities(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of what was measured and modelled; a measured one that is flagged is left out."""
    rails = {f"energy of {rail}": each for rail, each in document["energy_by_rail_joules"].items()}
    names = [*document["modelled"], *rails]
    pairs = [(name, rails.get(name, document.get(name)), document["modelled"].get(name)) for name in names]
    return [(_ROWS.get(name, name), _cell(measured), _cell(modelled)) for name, measured, modelled in pairs]


def _cell(quantity: dict[str, Any] | None) -> str:
    return "" if quantity is None else f"{quantity['value']:,.4g} {quantity['unit']}"


def _events(activity: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the board's counts beside those that the engine lets one expect."""
    counted, expected = activity["per_token"], activity["expected_per_token"]

    def row(name: str) -> tuple[str, ...]:
        sides = counted.get(_HELD_AGAINST.get(name, name)), expected.get(name)
        pair = [None if each is None else each["value"] for each in sides]
        ratio = f"{pair[0] / pair[1]:.4f}" if pair[0] is not None and pair[1] else ""
        return (name.replace("_", " "), *("" if each is None else f"{each:,.1f}" for each in pair), ratio)

    return [row(name) for name in counted | expected]

"""loihi-mmfree bench."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from loihi_mmfree import defaults
from loihi_mmfree.cli.output import JSON_OPTION, listed, print_json, progress
from loihi_mmfree.errors import UsageError

if TYPE_CHECKING:
    from loihi_mmfree.sim.session.bench import Measurement

FORMATS = ("md", "csv")


def bench(
    net: Path = typer.Argument(..., metavar="NET", help="Folder of a compiled network."),
    backend: str = typer.Option(
        ",".join(defaults.BENCH_BACKENDS), "--backend", help=f"List: {', '.join(defaults.MEASURABLE_BACKENDS)}."
    ),
    granularity: str = typer.Option(
        ",".join(defaults.BENCH_GRANULARITIES),
        "--granularity",
        help=f"List, for sim: {', '.join(defaults.GRANULARITIES)}.",
    ),
    prompt_tokens: str = typer.Option(
        ",".join(map(str, defaults.BENCH_PROMPT_TOKENS)), "--prompt-tokens", help="List of prompt lengths."
    ),
    new_tokens: int = typer.Option(
        defaults.BENCH_NEW_TOKENS, "-n", "--new-tokens", help="Tokens read one by one after the prompt."
    ),
    repeats: int = typer.Option(defaults.BENCH_REPEATS, "--repeats", help="Counted runs of each combination."),
    warm_up: int = typer.Option(defaults.BENCH_WARM_UP, "--warm-up", help="Uncounted runs before them."),
    output_format: str = typer.Option("md", "--format", help="md or csv."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure throughput on this machine: medians and spread, prefill and decode apart."""
    from loihi_mmfree import api

    if output_format not in FORMATS:
        raise UsageError(f"--format {output_format}: known are {', '.join(FORMATS)}; JSON is --json")
    lengths = _lengths(prompt_tokens)
    with progress() as show:
        found = api.bench(
            net,
            listed(backend),
            listed(granularity),
            lengths,
            new_tokens,
            repeats=repeats,
            warm_up=warm_up,
            progress=show,
        )
    typer.echo(_csv(found.rows) if output_format == "csv" else str(found))
    if as_json:
        print_json(found.to_dict())


def _lengths(text: str) -> list[int]:
    try:
        lengths = [int(each) for each in listed(text)]
    except ValueError as error:
        raise UsageError(f"--prompt-tokens {text!r}: whole numbers separated by commas") from error
    return lengths


def _csv(rows: Sequence[Measurement]) -> str:
    buffer = io.StringIO()
    flat = [_flat(row) for row in rows]
    writer = csv.DictWriter(buffer, fieldnames=list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue().rstrip("\n")


def _flat(row: Measurement) -> dict[str, object]:
    """A row with every spread as three columns."""
    flat: dict[str, object] = {}
    for name, value in dataclasses.asdict(row).items():
        if isinstance(value, dict):
            flat.update({f"{name}_{part}": each for part, each in value.items()})
        else:
            flat[name] = value
    return flat

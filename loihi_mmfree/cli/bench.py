"""loihi-mmfree bench."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json, progress
from loihi_mmfree.errors import UsageError

if TYPE_CHECKING:
    from loihi_mmfree.sim.session.bench import Machine, Measurement, Spread

FORMATS = ("md", "csv")


def bench(
    net: Path = typer.Argument(..., metavar="NET", help="Folder of a compiled network."),
    backend: str = typer.Option("engine", "--backend", help="List: engine, engine:numpy, sim."),
    granularity: str = typer.Option("block", "--granularity", help="List, for sim: operator, block, network."),
    prompt_tokens: str = typer.Option("16,128", "--prompt-tokens", help="List of prompt lengths."),
    new_tokens: int = typer.Option(32, "-n", "--new-tokens", help="Tokens read one by one after the prompt."),
    repeats: int = typer.Option(5, "--repeats", help="Counted runs of each combination."),
    warm_up: int = typer.Option(1, "--warm-up", help="Uncounted runs before them."),
    output_format: str = typer.Option("md", "--format", help="md or csv."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure throughput on this machine: medians and spread, prefill and decode apart."""
    from loihi_mmfree import api
    from loihi_mmfree.sim.session.bench import measure, measure_machine

    if output_format not in FORMATS:
        raise UsageError(f"--format {output_format}: known are {', '.join(FORMATS)}; JSON is --json")
    for name, value, least in (("--repeats", repeats, 1), ("--warm-up", warm_up, 0), ("-n", new_tokens, 1)):
        if value < least:
            raise UsageError(f"{name} is {value}; it must be at least {least}")
    lengths = _lengths(prompt_tokens)
    loaded = api.load(net)
    machine = measure_machine()
    with progress() as show:
        rows = measure(
            loaded, backend.split(","), granularity.split(","), lengths, new_tokens, repeats, warm_up, show
        )
    typer.echo(_csv(rows) if output_format == "csv" else _markdown(machine, rows))
    if as_json:
        print_json({"machine": dataclasses.asdict(machine), "rows": [dataclasses.asdict(row) for row in rows]})


def _lengths(text: str) -> list[int]:
    try:
        lengths = [int(each) for each in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--prompt-tokens {text!r}: whole numbers separated by commas") from error
    if min(lengths) < 1:
        raise UsageError(f"--prompt-tokens {text!r}: a prompt has at least one token")
    return lengths


def _spread(spread: Spread) -> str:
    return f"{spread.median:.1f} ({spread.least:.1f} to {spread.greatest:.1f})"


def _rounded(megabytes: float | None) -> str:
    return "not known" if megabytes is None else f"{megabytes:.0f}"


def _markdown(machine: Machine, rows: list[Measurement]) -> str:
    lines = [
        f"Machine: {machine.cores} cores, reads {machine.read_gb_per_s:.1f} GB/s, float32 matrix product "
        f"{machine.float32_gmac_per_s:.0f} GMAC/s. Tokens/s as median (least to greatest).",
        "",
        "| backend | granularity | prompt | prefill tokens/s | decode tokens/s | weights GB/s | decode GMAC/s "
        "| prefill GMAC/s | start s | peak MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.backend} | {row.granularity} | {row.prompt_tokens} | {_spread(row.prefill_tokens_per_s)} "
        f"| {_spread(row.decode_tokens_per_s)} | {row.weight_gb_per_s:.2f} | {row.gmac_per_s:.1f} "
        f"| {row.prefill_gmac_per_s:.1f} | {row.start_seconds:.2f} | {_rounded(row.peak_rss_mb)} |"
        for row in rows
    ]
    return "\n".join(lines)


def _csv(rows: list[Measurement]) -> str:
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

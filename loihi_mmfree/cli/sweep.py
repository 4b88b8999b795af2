"""loihi-mmfree sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from loihi_mmfree import defaults
from loihi_mmfree.cli.output import JSON_OPTION, listed, print_json, print_table, progress, say
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import LARGEST_SETTINGS_BYTES, read_text

if TYPE_CHECKING:
    from loihi_mmfree.api import CompileConfig

Number = TypeVar("Number", int, float)


def sweep(
    checkpoint: Path = typer.Argument(..., metavar="CKPT", help="As `compile` takes it."),
    text: Path = typer.Option(..., "--text", metavar="FILE", help="A text: what every network loses on it."),
    act_bits: str = typer.Option(
        defaults.SWEEP_BITS, "--act-bits", help="Bits of the projections' inputs, each 4 to 16."
    ),
    zeros: str = typer.Option(
        defaults.SWEEP_ZEROS,
        "--zeros",
        help="Shares of the smallest inputs of projections that are not sent, each 0 to 0.95.",
    ),
    config: Path | None = typer.Option(
        None, "--config", metavar="FILE", help="Everything else, as `compile` takes it."
    ),
    calib: Path | None = typer.Option(
        None, "--calib", metavar="FILE", help="Calibrate on this, as `compile` does."
    ),
    limit: int | None = typer.Option(
        defaults.SWEEP_WINDOWS, "--limit", help="At most so many windows of 512 tokens of the text."
    ),
    device: str | None = typer.Option(
        None, "--device", help="Where PyTorch computes: cuda or cpu; by default a GPU if there is one."
    ),
    output: Path | None = typer.Option(
        None, "--output", "-o", metavar="DIR", help="Keep the networks in this folder, each under its row's name."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Compile a checkpoint with several widths and thresholds: what each loses, measured, and saves, modelled."""
    from loihi_mmfree import api

    settings = _settings(config, _numbers(act_bits, int, "--act-bits"), _numbers(zeros, float, "--zeros"))
    with progress() as show:
        found = api.sweep(
            checkpoint,
            settings,
            text,
            output,
            limit=limit,
            calibration=calib,
            device=device,
            progress=show,
            on_network=lambda network: say("  ".join(network.row), err=True),  # As it comes: it may take long.
        )
    for table in found.tables:
        print_table(table.title, table.columns, table.rows)
    for note in found.notes:
        typer.echo(note)
    if as_json:
        print_json(found.to_dict())


def _settings(config: Path | None, bits: list[int], shares: list[float]) -> dict[str, CompileConfig]:
    """A row for every width with every share of zeros."""
    from loihi_mmfree.api import CompileConfig

    given = CompileConfig()
    if config is not None:
        given = CompileConfig.from_toml(read_text(config, LARGEST_SETTINGS_BYTES, "--config"), str(config))
    return {
        f"a{width}" + (f"-zeros{share:g}" if share else ""): given.changed(
            {"activation_bits": width}, {"zeros": share or None}
        )
        for width in bits
        for share in shares
    }


def _numbers(text: str, kind: Callable[[str], Number], option: str) -> list[Number]:
    try:
        return [kind(each) for each in listed(text)]
    except ValueError:
        raise UsageError(f"{option} {text}: give numbers separated by commas") from None

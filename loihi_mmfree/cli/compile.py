"""loihi-mmfree compile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from loihi_mmfree import defaults
from loihi_mmfree.cli.output import JSON_OPTION, print_json, print_table, printable, progress, say
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import LARGEST_SETTINGS_BYTES, read_text
from loihi_mmfree.options import on_command_line
from loihi_mmfree.text import counted
from loihi_mmfree.units import bytes_text

if TYPE_CHECKING:
    from loihi_mmfree.api import CompileConfig
    from loihi_mmfree.search.narrowing import Trial


def compile_command(
    checkpoint: Path = typer.Argument(
        ...,
        metavar="CKPT",
        help="Hugging Face folder, .safetensors, .pt, .ckpt or .bin file, or owner/name on the hub.",
    ),
    output: Path = typer.Option(..., "--output", "-o", metavar="NET", help="Folder to write."),
    act_bits: int | None = typer.Option(
        None, "--act-bits", help="Bits of the projections' inputs, 4 to 16 [default: 12]."
    ),
    residual_bits: int | None = typer.Option(
        None, "--residual-bits", help="Bits of the residual stream and the embedding, 8 to 24 [default: 16]."
    ),
    preactivation_bits: int | None = typer.Option(
        None, "--preactivation-bits", help="Bits of the projections' outputs before a gate, 8 to 24 [default: 16]."
    ),
    state_bits: int | None = typer.Option(
        None, "--state-bits", help="Bits of the recurrent state, 8 to 24 [default: 16]."
    ),
    product_bits: int | None = typer.Option(
        None, "--product-bits", help="Bits of gated products and of what norms square, 8 to 24 [default: 16]."
    ),
    headroom_bits: int | None = typer.Option(
        None, "--headroom-bits", help="Bits that all but the projections' inputs keep free, 0 to 4 [default: 1]."
    ),
    method: str | None = typer.Option(
        None,
        "--method",
        help="How formats of the projections' inputs are chosen: least_squares, fine_least_squares, max or "
        "percentile [default: least_squares].",
    ),
    zeros: float | None = typer.Option(
        None,
        "--zeros",
        metavar="SHARE",
        help="Do not send the smallest inputs of projections: 0.3 is three tenths of them [default: 0].",
    ),
    preset: str | None = typer.Option(
        None, "--preset", help="Settings by name: default, a8, a16 or abreu2025; options go over them."
    ),
    weight_bits: int | None = typer.Option(
        None, "--weight-bits", help="Bits a weight takes in synapse memory: 2 or 8 [default: 8]."
    ),
    calib: Path | None = typer.Option(
        None, "--calib", metavar="FILE", help="Calibrate on this text, or on token ids in a .npy file."
    ),
    config: Path | None = typer.Option(
        None, "--config", metavar="FILE", help="Settings in TOML, like the config.toml of a compiled network."
    ),
    chip: str | None = typer.Option(
        None,
        "--chip",
        metavar="SYSTEM",
        help="loihi2, oheo-gulch, kapoho-point, hala-point, or a TOML file with your limits [default: loihi2].",
    ),
    head: str | None = typer.Option(
        None, "--head", help="Where the final norm and the head are computed: host or chip [default: host]."
    ),
    objective: str | None = typer.Option(
        None, "--objective", help="chips: place on the fewest; or speed: spread over --chips [default: chips]."
    ),
    chips: int | None = typer.Option(
        None, "--chips", metavar="N", help="Use at most so many chips [default: all that the system has]."
    ),
    straddle: bool | None = typer.Option(
        None, "--straddle/--no-straddle", help="Let a block lie on several chips [default: no]."
    ),
    ternary_scale: str | None = typer.Option(
        None,
        "--ternary-scale",
        help="Scale of weights stored ternary already: absmean, as upstream has it, or stored [default: absmean].",
    ),
    budget: str | None = typer.Option(
        None,
        "--budget",
        metavar="SHARE",
        help="Find the narrowest formats that lose no more perplexity against the float model: 0.2% or 0.002.",
    ),
    budget_text: Path | None = typer.Option(
        None,
        "--budget-text",
        metavar="FILE",
        help="Judge --budget on this text; by default on what the calibration leaves of its own.",
    ),
    budget_windows: int = typer.Option(
        defaults.BUDGET_WINDOWS, "--budget-windows", help="Windows of 512 tokens of --budget-text, at most."
    ),
    budget_trials: int = typer.Option(
        defaults.BUDGET_TRIALS, "--budget-trials", help="Formats that --budget tries, at most."
    ),
    device: str | None = typer.Option(
        None,
        "--device",
        help="Where the calibration computes, cuda or cpu [default: cpu], and the integers of --budget "
        "[default: a GPU if there is one].",
    ),
    force: bool = typer.Option(False, "--force", help="Replace an existing network."),
    dump_ir: Path | None = typer.Option(
        None, "--dump-ir", metavar="DIR", help="Write the graph after every pass."
    ),
    verify: bool = typer.Option(False, "--verify", help="Run the golden input after every pass and compare."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Compile a checkpoint: calibrate, quantize, lower to synapses and neuron groups, prove its bounds."""
    began = time.perf_counter()
    from loihi_mmfree import api

    given = {
        "weight_bits": weight_bits,
        "chip": chip,
        "head": head,
        "objective": objective,
        "chips": chips,
        "straddle": straddle,
        "ternary_scale": ternary_scale,
    }
    widths = {
        "activation_bits": act_bits,
        "residual_bits": residual_bits,
        "preactivation_bits": preactivation_bits,
        "state_bits": state_bits,
        "product_bits": product_bits,
        "headroom_bits": headroom_bits,
    }
    settings = _settings(config, preset).changed(widths, {"method": method, "zeros": zeros}, given)
    notices: list[str] = []
    if budget is None and budget_text is not None:
        raise UsageError("`budget_text` is what a budget is judged on; give `budget='0.2%'` as well")
    if output.exists() and not force:
        raise UsageError(f"{output} exists; --force replaces a network")
    found = None
    with progress() as show:
        if budget is not None:
            with _saying_trials() as note:
                found = api.narrow(
                    checkpoint,
                    _share(budget),
                    settings,
                    budget_text=budget_text,
                    budget_windows=budget_windows,
                    budget_trials=budget_trials,
                    calibration=calib,
                    device=device,
                    progress=show,
                    on_trial=note,
                )
            settings = found.config
        net = api.compile(
            checkpoint,
            output,
            settings,
            calibration=calib,
            device=device,
            force=force,
            progress=show,
            on_notice=lambda notice: notices.append(on_command_line(notice)),
            dump_ir=dump_ir,
            verify=verify,
        )
    seconds = time.perf_counter() - began
    for notice in notices:
        typer.echo(printable(f"notice: {notice}"), err=True)
    for table in () if found is None else found.tables:
        print_table(table.title, table.columns, table.rows)
    for line in () if found is None else found.notes:
        typer.echo(line)
    size = sum(path.stat().st_size for path in output.iterdir())
    depth, placement = net.manifest["depth_steps"], net.placed.placement
    typer.echo(
        f"{printable(str(output))}: {len(net.graph.nodes)} nodes on {counted(placement.cores_used, 'core')} of "
        f"{counted(placement.chips_used, 'chip')} ({placement.system}), {depth} time steps deep, "
        f"{bytes_text(size)}, {seconds:.1f} s"
    )
    if as_json:
        print_json(
            {
                "net": str(output),
                "nodes": len(net.graph.nodes),
                "depth_steps": depth,
                "chip": placement.system,
                "chips_used": placement.chips_used,
                "cores_used": placement.cores_used,
                "bytes": size,
                "seconds": seconds,
                "notices": notices,
                "checkpoint_sha256": net.manifest["checkpoint_sha256"],
                "versions": net.manifest["versions"],
                "narrowing": None if found is None else found.to_dict(),
            }
        )


@contextlib.contextmanager
def _saying_trials() -> Iterator[Callable[[Trial], None]]:
    """Give what shows a trial as it ends; where the search is ended early, show the narrowest formats so far."""
    kept: list[str] = []

    def note(trial: Trial) -> None:
        say(str(trial), err=True)
        if trial.kept:
            kept.append(trial.config.to_toml())

    try:
        yield note
    except (KeyboardInterrupt, SystemExit):
        if kept:
            say(f"ended early; the narrowest formats that kept the budget, for --config:\n{kept[-1]}", err=True)
        raise


def _share(text: str) -> float:
    """A share as a number, or in percent."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        return float(number) / (100 if percent else 1)
    except ValueError:
        raise UsageError(f"--budget {text}: give a share of perplexity, as 0.2% or 0.002") from None


def _settings(config: Path | None, preset: str | None) -> CompileConfig:
    """The settings of a file or of a preset; the defaults without either."""
    from loihi_mmfree.api import CompileConfig

    if config is not None and preset is not None:
        raise UsageError("--config and --preset both name settings; give one of them")
    if config is not None:
        return CompileConfig.from_toml(read_text(config, LARGEST_SETTINGS_BYTES, "--config"), str(config))
    return CompileConfig.preset(preset or "default")

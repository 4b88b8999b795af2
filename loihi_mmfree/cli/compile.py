"""loihi-mmfree compile."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json, printable, progress
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import LARGEST_SETTINGS_BYTES, read_text
from loihi_mmfree.options import on_command_line
from loihi_mmfree.text import counted
from loihi_mmfree.units import bytes_text

if TYPE_CHECKING:
    from loihi_mmfree.api import CompileConfig


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
    settings = _settings(config, preset).changed(act_bits, zeros, given)
    notices: list[str] = []
    with progress() as show:
        net = api.compile(
            checkpoint,
            output,
            settings,
            calibration=calib,
            force=force,
            progress=show,
            on_notice=lambda notice: notices.append(on_command_line(notice)),
            dump_ir=dump_ir,
            verify=verify,
        )
    seconds = time.perf_counter() - began
    for notice in notices:
        typer.echo(printable(f"notice: {notice}"), err=True)
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
            }
        )


def _settings(config: Path | None, preset: str | None) -> CompileConfig:
    """The settings of a file or of a preset; the defaults without either."""
    from loihi_mmfree.api import CompileConfig

    if config is not None and preset is not None:
        raise UsageError("--config and --preset both name settings; give one of them")
    if config is not None:
        return CompileConfig.from_toml(read_text(config, LARGEST_SETTINGS_BYTES, "--config"), str(config))
    return CompileConfig.preset(preset or "default")

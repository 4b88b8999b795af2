"""loihi-mmfree compile."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json, printable, progress
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
    settings = _settings(config, act_bits, given)
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


def _settings(config: Path | None, act_bits: int | None, given: dict[str, Any]) -> CompileConfig:
    """The configuration file's settings, with those that the command line gives over them."""
    from loihi_mmfree.api import CompileConfig

    settings = CompileConfig()
    if config is not None:
        text = read_text(config, LARGEST_SETTINGS_BYTES, "--config")
        settings = CompileConfig.from_toml(text, str(config))
    if act_bits is not None:
        quantization = dataclasses.replace(settings.quantization, activation_bits=act_bits)
        settings = dataclasses.replace(settings, quantization=quantization)
    return dataclasses.replace(settings, **{name: value for name, value in given.items() if value is not None})

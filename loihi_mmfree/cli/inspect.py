"""loihi-mmfree inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json, print_table
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import require_output, write_whole
from loihi_mmfree.text import counted
from loihi_mmfree.units import bytes_text, kilobytes

if TYPE_CHECKING:
    from loihi_mmfree.place.traffic import Traffic
    from loihi_mmfree.report.summary import BlockSummary, CoreSummary, Summary

FULLEST_CORES = 5
"""How many of the fullest cores are listed unless all are asked for."""


def inspect(
    net: Path = typer.Argument(..., metavar="NET", help="Folder of a compiled network."),
    program: str | None = typer.Option(
        None,
        "--program",
        metavar="NODE",
        help="Show one neuron group: its program and what surrounds it.",
    ),
    nodes: bool = typer.Option(False, "--nodes", help="List every node, not only totals per block."),
    cores: bool = typer.Option(False, "--cores", help="List every core, not only the fullest."),
    html: Path | None = typer.Option(
        None, "--html", metavar="FILE", help="Write a page with a map of every chip, to open in a browser."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show what a network consists of and where it lies: blocks, chips, cores, traffic, formats, depth."""
    from loihi_mmfree import api

    if program is not None:
        others = [name for name, given in (("--nodes", nodes), ("--cores", cores), ("--html", html)) if given]
        if others:
            raise UsageError(f"--program shows one node and goes with --json only, not with {', '.join(others)}")
    if html is not None:
        require_output(html, "--html")
    loaded = api.load(net)
    if program is not None:
        described = api.program(loaded, program)
        typer.echo(str(described))
        if as_json:
            print_json(described.to_dict())
        return
    inspected = api.inspect(loaded)
    summary, moved = inspected.summary, inspected.traffic
    if html is not None:
        write_whole(html, inspected.html().encode(), "--html")
    _print_blocks(str(net), summary)
    _print_chips(summary)
    _print_cores(summary.cores if cores else summary.fullest_cores[:FULLEST_CORES], every=cores)
    if nodes:
        node_rows = [(each.name, each.kind, each.shape, str(each.offset), each.formats) for each in summary.nodes]
        print_table("Nodes", ("node", "kind", "size", "step", "formats"), node_rows)
    _print_totals(summary, moved)
    if as_json:
        print_json(summary.to_dict())


def _print_blocks(title: str, summary: Summary) -> None:
    columns = ("block", "chip", "cores", "neurons", "synapses", "synapse kB", "instructions", "steps")
    print_table(title, columns, [_block_row(block) for block in summary.blocks])


def _block_row(block: BlockSummary) -> tuple[str, ...]:
    return (
        block.name,
        ", ".join(map(str, block.chips)) or "host",
        str(block.cores) if block.cores else "",
        f"{block.neurons:,}",
        f"{block.synapses:,}",
        kilobytes(block.synapse_bytes) if block.cores else "",
        f"{block.instructions:,}",
        str(block.steps),
    )


def _print_chips(summary: Summary) -> None:
    rows = [
        (
            str(each.chip),
            str(each.cores),
            f"{each.neurons:,}",
            kilobytes(each.synapse_bytes),
            f"{each.load:.0%}",
            ", ".join(each.blocks),
        )
        for each in summary.chips
    ]
    print_table("Chips", ("chip", "cores", "neurons", "synapse kB", "fullest core", "blocks"), rows)


def _print_cores(cores: tuple[CoreSummary, ...], every: bool) -> None:
    rows = [
        (
            f"{core.chip}/{core.core}",
            f"{core.load:.1%}",
            f"{core.fullest}: {core.usage[core.fullest][0]:,} of {core.usage[core.fullest][1]:,}",
            ", ".join(core.shards),
        )
        for core in cores
    ]
    title = "Cores" if every else "Fullest cores"
    print_table(title, ("chip/core", "load", "fullest resource", "neurons held"), rows)


def _print_totals(summary: Summary, moved: Traffic) -> None:
    chips = sum(moved.between_chips().values())
    typer.echo(
        f"{summary.chip}: {counted(summary.cores_used, 'core')} on {counted(summary.chips_used, 'chip')}, head on "
        f"{summary.head}; "
        f"{summary.depth_steps} time steps from token to logits; {summary.activation_bits}-bit activations, "
        f"{summary.weight_bits}-bit weights in synapse memory"
    )
    typer.echo(
        f"at most {moved.sent:,.0f} messages a step when pipelined: {moved.link_messages:,.0f} hops over links, "
        f"{bytes_text(moved.link_bytes)}, {chips:,.0f} of them between chips"
    )
    typer.echo("Counted from the compiled network and a model of the chip; nothing was measured on hardware.")

"""loihi-mmfree inspect."""

from __future__ import annotations

from pathlib import Path

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json, print_table
from loihi_mmfree.errors import UsageError


def inspect(
    net: Path = typer.Argument(..., metavar="NET", help="Folder of a compiled network."),
    program: str | None = typer.Option(
        None, "--program", metavar="NODE", help="Print the neuron program of a node."
    ),
    nodes: bool = typer.Option(False, "--nodes", help="List every node, not only totals per block."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show what a network consists of: blocks, formats, depth in time steps, sizes."""
    from loihi_mmfree import api
    from loihi_mmfree.compiler.nodes import NeuronGroup
    from loihi_mmfree.compiler.summary import summarize
    from loihi_mmfree.fixedpoint.listing import listing

    loaded = api.load(net)
    if program is not None:
        node = loaded.graph.by_name.get(program)
        if not isinstance(node, NeuronGroup):
            groups = ", ".join(each.name for each in loaded.graph if isinstance(each, NeuronGroup))
            raise UsageError(f"--program {program}: no such neuron group; there are {groups}")
        typer.echo(listing(node.program))
        return
    summary = summarize(loaded)
    columns = ("block", "neurons", "synapses", "synapse KB", "instructions", "steps")
    rows = [
        (
            block.name,
            f"{block.neurons:,}",
            f"{block.synapses:,}",
            f"{block.synapse_bytes / 1024:,.1f}",
            f"{block.instructions:,}",
            str(block.steps),
        )
        for block in summary.blocks
    ]
    print_table(str(net), columns, rows)
    if nodes:
        node_rows = [(each.name, each.kind, each.shape, str(each.offset), each.formats) for each in summary.nodes]
        print_table("Nodes", ("node", "kind", "size", "step", "formats"), node_rows)
    typer.echo(
        f"{summary.depth_steps} time steps from token to logits; {summary.activation_bits}-bit activations, "
        f"{summary.weight_bits}-bit weights in synapse memory"
    )
    if as_json:
        print_json(summary.to_dict())

"""loihi-mmfree evaluate."""

from __future__ import annotations

from pathlib import Path

import typer

from loihi_mmfree import defaults
from loihi_mmfree.cli.output import JSON_OPTION, print_json, print_table, progress
from loihi_mmfree.files import require_output, write_whole


def evaluate(
    model: str = typer.Argument(
        ..., metavar="NET|CKPT", help="A compiled network, by its integers, or a checkpoint, by its float model."
    ),
    text: Path | None = typer.Option(None, "--text", metavar="FILE", help="Perplexity on a text file."),
    task: Path | None = typer.Option(
        None, "--task", metavar="FILE.jsonl", help="Accuracy on questions with answers, or texts to complete."
    ),
    checkpoint: str | None = typer.Option(
        None, "--ckpt", metavar="CKPT", help="Also the float model that NET came from, and both compared."
    ),
    window: int = typer.Option(defaults.WINDOW, "--window", help="Tokens of a window of the text."),
    stride: int | None = typer.Option(
        None, "--stride", help="Tokens from one window to the next; by default they do not overlap."
    ),
    limit: int | None = typer.Option(None, "--limit", help="At most so many windows or items; by default all."),
    backend: str | None = typer.Option(
        None, "--backend", help="What runs NET: engine, torch, sim or loihi2; torch on a GPU, else engine."
    ),
    device: str | None = typer.Option(
        None, "--device", help="Where PyTorch computes: cuda or cpu; by default a GPU if there is one."
    ),
    batch: int | None = typer.Option(None, "--batch", help="Windows or items at once; changes no number."),
    results: Path | None = typer.Option(
        None, "--results", metavar="FILE", help="Keep what is found, and go on from what is there."
    ),
    html: Path | None = typer.Option(None, "--html", metavar="FILE", help="Write it as a page."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say how good a model is: perplexity on a text, or accuracy on a task; integers beside float."""
    from loihi_mmfree import api

    if html is not None:
        require_output(html, "--html")
    with progress() as show:
        found = api.evaluate(
            model,
            text=text,
            task=task,
            checkpoint=checkpoint,
            window=window,
            stride=stride,
            limit=limit,
            backend=backend,
            device=device,
            batch=batch,
            results=results,
            progress=show,
        )
    if found is None:
        typer.echo(f"this process is done; the last one to end shows what all found, in {results}", err=True)
        return
    if html is not None:
        write_whole(html, found.html().encode(), "--html")
    for table in found.tables:
        print_table(table.title, table.columns, table.rows)
    for note in found.notes:
        typer.echo(note)
    if as_json:
        print_json(found.to_dict())

"""loihi-mmfree train."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json, printable, progress, say
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import LARGEST_SETTINGS_BYTES, parse_toml, read_text
from loihi_mmfree.text import counted


def train(
    output: Path = typer.Option(
        ..., "--output", "-o", metavar="CKPT", help="Folder to write, in the layout of Hugging Face."
    ),
    text: Path | None = typer.Option(
        None, "--text", metavar="FILE", help="What to train on: plain text, or JSON lines in a .jsonl file."
    ),
    shape: str | None = typer.Option(
        None, "--shape", help="What to train: tiny, demo, small, 370M, 1.3B or 2.7B, each with a recipe."
    ),
    recipe: Path | None = typer.Option(
        None, "--recipe", metavar="FILE.toml", help="A recipe, like the recipe.toml of a trained checkpoint."
    ),
    steps: int | None = typer.Option(None, "--steps", help="Steps to take, instead of those of the recipe."),
    base: str | None = typer.Option(
        None, "--from", metavar="CKPT", help="Start from this checkpoint, with its tokenizer."
    ),
    quantize: str | None = typer.Option(
        None,
        "--quantize",
        metavar="a8|a6|a4|FILE.toml",
        help="Train the checkpoint of --from for these formats: bits of the projections' inputs, or the "
        "config.toml of a compilation.",
    ),
    tokenizer: Path | None = typer.Option(
        None,
        "--tokenizer",
        metavar="FILE",
        help="tokenizer.json or .model; by default one is trained on the text.",
    ),
    device: str | None = typer.Option(
        None, "--device", help="Where to train: cuda or cpu; by default a GPU if there is one."
    ),
    tensorboard: Path | None = typer.Option(
        None, "--tensorboard", metavar="DIR", help="Folder for the log of TensorBoard."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on with the training that was begun in CKPT."),
    force: bool = typer.Option(False, "--force", help="Replace a training that was begun in CKPT."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Train a MatMul-free language model on a text, into a checkpoint that `compile` takes."""
    began = time.perf_counter()
    from loihi_mmfree import api

    with progress() as show:
        found = api.train(
            output,
            _recipe(recipe, shape),
            text=text,
            steps=steps,
            base=base,
            quantize=quantize,
            tokenizer=tokenizer,
            device=device,
            tensorboard=tensorboard,
            resume=resume,
            force=force,
            progress=show,
            on_notice=lambda notice: say(f"notice: {notice}", err=True),
        )
    if found is None:
        return
    seconds = time.perf_counter() - began
    typer.echo(
        f"{printable(str(output))}: {counted(len(found.records), 'step')}, loss {found.loss:.4f} nats a token in "
        f"the last, {seconds:.1f} s"
    )
    if found.exact_loss is not None:
        typer.echo(f"the loss of its compiled integers, on the windows of the last step: {found.exact_loss:.4f}")
    if as_json:
        print_json(
            {
                "checkpoint": str(output),
                "steps": len(found.records),
                "loss": found.loss,
                "exact_loss": found.exact_loss,
                "parameters": found.parameters,
                "seconds": seconds,
                "recipe": found.recipe.to_dict(),
            }
        )


def _recipe(path: Path | None, shape: str | None) -> dict[str, Any] | None:
    """What a file or a shape says; None without either."""
    if path is not None and shape is not None:
        raise UsageError("--recipe and --shape both name a recipe; give one of them, and shape = ... in the file")
    if path is not None:
        return parse_toml(read_text(path, LARGEST_SETTINGS_BYTES, "--recipe"), str(path))
    return None if shape is None else {"shape": shape}

"""loihi-mmfree demo."""

from __future__ import annotations

import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json, progress
from loihi_mmfree.errors import MismatchError

if TYPE_CHECKING:
    from loihi_mmfree.api import Token

PROMPT = "It was a dark night, and the old man"


def demo(
    new_tokens: int = typer.Option(24, "-n", "--new-tokens", help="Generate so many tokens."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Compile the checkpoint that comes with the package and run it on Lava's simulation of Loihi 2."""
    from loihi_mmfree import api

    with (
        resources.as_file(resources.files("loihi_mmfree") / "data" / "mmf-demo") as checkpoint,
        tempfile.TemporaryDirectory(prefix="loihi-mmfree-demo-") as folder,
    ):
        typer.echo("Compiling a 6-million-parameter MatMul-free language model ...", err=True)
        began = time.perf_counter()
        with progress() as show:
            net = api.compile(checkpoint, Path(folder) / "net", progress=show)
        compiled = time.perf_counter() - began
        typer.echo(
            f"  {compiled:.1f} s: {len(net.graph.nodes)} Lava processes, {net.manifest['depth_steps']} time steps "
            "from token to logits",
            err=True,
        )
        typer.echo("Running every process on Lava's CPU simulation of Loihi 2 ...", err=True)
        if not as_json:
            typer.echo(PROMPT, nl=False)

        def show_token(token: Token) -> None:
            if not as_json:
                typer.echo(token.text or "", nl=False)

        on_lava = api.run(net, PROMPT, new_tokens, backend="sim", on_token=show_token)
        if not as_json:
            typer.echo("")
        engine = api.run(net, PROMPT, new_tokens, backend="engine")
    if on_lava.logits_sha256 != engine.logits_sha256:
        raise MismatchError("Lava and the integer engine gave different logits")
    rows = len(on_lava.ids)
    typer.echo(
        f"Lava and the integer engine agree in every bit of {rows * net.vocab_size:,} logits "
        f"(SHA-256 {engine.logits_sha256[:16]}…). {on_lava.steps} time steps simulated, "
        f"{on_lava.overflows} overflows; no Loihi 2 was involved, and no speed of the chip is claimed.",
        err=True,
    )
    if as_json:
        print_json(
            {
                "text": on_lava.text,
                "logits_sha256": engine.logits_sha256,
                "equal": True,
                "compile_seconds": compiled,
                "steps": on_lava.steps,
                "overflows": on_lava.overflows,
            }
        )

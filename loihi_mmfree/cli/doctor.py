"""loihi-mmfree doctor."""

from __future__ import annotations

import importlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json, print_table
from loihi_mmfree.errors import LoihiMmfreeError

# Package on the index -> module to import, and what cannot be done without it.
REQUIRED = {
    "numpy": ("numpy", "anything"),
    "safetensors": ("safetensors", "reading and writing networks"),
    "tokenizers": ("tokenizers", "prompts as text"),
    "torch": ("torch", "compile"),
    "brevitas": ("brevitas", "compile"),
    "lava-nc": ("lava.magma.core.process.process", "run --backend sim"),
    "greenlet": ("greenlet", "run --backend sim --runtime inprocess"),
}


def doctor(as_json: bool = JSON_OPTION) -> None:
    """Check this machine: which commands work here, and what is missing for the others."""
    from loihi_mmfree import api

    packages = {name: _package(name, module) for name, (module, _) in REQUIRED.items()}
    rows = [
        (name, packages[name]["version"] or "-", packages[name]["problem"] or "ok", REQUIRED[name][1])
        for name in REQUIRED
    ]
    print_table("Packages", ("package", "version", "state", "needed for"), rows)
    chip = api.chip_extension()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    typer.echo(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    typer.echo(f"{os.cpu_count()} cores, {memory:.1f} GB of memory")
    typer.echo(f"Loihi 2: {chip}")
    broken = [name for name in REQUIRED if packages[name]["problem"]]
    if as_json:
        print_json(
            {
                "python": platform.python_version(),
                "packages": packages,
                "cores": os.cpu_count(),
                "memory_gb": memory,
                "loihi2": chip,
                "ok": not broken,
            }
        )
    if broken:
        lost = "; ".join(f"{name}: needed for {REQUIRED[name][1]}" for name in broken)
        raise LoihiMmfreeError(f"not everything works on this machine: {lost}")


def _package(name: str, module: str) -> dict[str, str | None]:
    try:
        found: str | None = version(name)
    except PackageNotFoundError:
        return {"version": None, "problem": "not installed"}
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken installation can fail in any way; that is what is looked for
        return {"version": found, "problem": f"does not import: {error}"}
    return {"version": found, "problem": None}

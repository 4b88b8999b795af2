"""The folder that `emit` writes: a core in Verilog, and all that it is loaded with and fed, with hashes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loihi_mmfree.errors import ArtifactError, UsageError
from loihi_mmfree.net.artifact import Net, network_sha256, versions
from loihi_mmfree.net.folder import MANIFEST, NetFolder, atomic_folder
from loihi_mmfree.rtl.build import CoreImage, build
from loihi_mmfree.rtl.listing import listing
from loihi_mmfree.rtl.loading import commands, instruction_words, product_words
from loihi_mmfree.rtl.parameters import Size
from loihi_mmfree.rtl.timing import Timing, Work, timing
from loihi_mmfree.untrusted import some_of

KIND = "loihi-mmfree core"
SCHEMA_VERSION = 1
VERILOG, WEIGHTS, COMMANDS, LISTING = "core.v", "weights.bin", "commands.bin", "listing.txt"
INSTRUCTIONS, PRODUCTS, CONSTANTS, CONSTRAINTS = "instructions.hex", "products.hex", "constants.hex", "core.xdc"
FILES = frozenset({VERILOG, WEIGHTS, COMMANDS, LISTING, INSTRUCTIONS, PRODUCTS, CONSTANTS, CONSTRAINTS})
ASSUMED_PERIOD_NS = 5.0
"""Of the constraint on the clock: a place to begin, which no tool has closed."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Emission:
    """A core that was written.

    Parameters
    ----------
    path : Path
    image : CoreImage
    timing : Timing
        Cycles of a token, by the formula that is held against simulation.
    manifest : mapping
        What manifest.json holds.
    """

    path: Path
    image: CoreImage
    timing: Timing
    manifest: Mapping[str, Any]

    def __repr__(self) -> str:
        size = self.image.parameters.size
        return (
            f"<Emission: {self.path}, {size.weights_per_cycle} weights a cycle, {size.lanes} lanes, "
            f"{self.timing.cycles} cycles a token>"
        )


def emit_core(net: Net, target: Path, size: Size, force: bool = False) -> Emission:
    """Write the core of a network, whole or not at all; the same network and size give the same bytes.

    Parameters
    ----------
    net : Net
    target : Path
        A folder that is not there, or, with `force`, one that was written so.
    size : Size
    force : bool

    Raises
    ------
    UsageError
        The folder is in the way or cannot be written.
    DoesNotFitError, UnsupportedModelError
        The network does not go onto the core.
    BackendUnavailableError
        Amaranth is missing.
    """
    from loihi_mmfree.rtl.simulator.toolchain import require_amaranth

    require_amaranth()
    from loihi_mmfree.rtl.hardware.verilog import generate

    image = build(net.graph, size)
    core = generate(image.parameters)
    found = timing(Work.of(image))
    with atomic_folder(target, force, _require_replaceable) as folder:
        _write_files(folder, image, core.text)
        manifest = {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "network_sha256": network_sha256(net.path),
            "parameters": {part: asdict(getattr(image.parameters, part)) for part in ("size", "widths", "depths")},
            "ports": dict(core.ports),
            "token_words": image.token_words,
            "weight_words": image.weight_words,
            "cycles_a_token": {**asdict(found), "source": "formula held against RTL simulation"},
            "versions": versions(),
            "files": {path.name: _sha256(path) for path in sorted(folder.iterdir())},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return Emission(target, image, found, manifest)


def _write_files(folder: Path, image: CoreImage, verilog: str) -> None:
    (folder / VERILOG).write_text(verilog)
    (folder / LISTING).write_text(listing(image))
    with (folder / WEIGHTS).open("wb") as file:
        for part in image.weights():
            file.write(part.tobytes())
    (folder / COMMANDS).write_bytes(commands(image).tobytes())
    constants = [value & 0xFFFFFFFF for value in image.constants.tolist()]
    for name, words in (
        (INSTRUCTIONS, instruction_words(image)),
        (PRODUCTS, product_words(image)),
        (CONSTANTS, constants),
    ):
        (folder / name).write_text("".join(f"{word:x}\n" for word in words))
    (folder / CONSTRAINTS).write_text(
        "# Assumed: no tool has closed this period for any device. Set it to what yours is to reach.\n"
        f"create_clock -name clk -period {ASSUMED_PERIOD_NS} [get_ports clk]\n"
    )


def check_emission(path: Path, net: Net) -> Mapping[str, Any]:
    """Hold every file of a core against its manifest, and that against the network; return it.

    Raises
    ------
    ArtifactError
        The folder is none that `emit` wrote, or a file is missing or altered, or the core is another
        network's.
    """
    with NetFolder(path) as folder:
        if not folder.holds(MANIFEST):
            raise ArtifactError(f"{path}: no core, {MANIFEST} is missing; `loihi-mmfree emit` writes one")
        manifest = folder.json(MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
            raise ArtifactError(f"{path / MANIFEST}: not the manifest of a core; `loihi-mmfree emit` writes one")
        if manifest.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{path / MANIFEST}: not of schema {SCHEMA_VERSION}; emit again")
        listed = manifest.get("files")
        if not isinstance(listed, dict) or listed.keys() != FILES:
            raise ArtifactError(f"{path / MANIFEST}: its file list is wrong; emit again")
        for name, expected in listed.items():
            found = folder.sha256(name)
            if found != expected:
                raise ArtifactError(
                    f"{path / name}: SHA-256 {found[:16]}…, the manifest says {str(expected)[:16]}…; the file was "
                    "altered or damaged; emit again"
                )
    if manifest.get("network_sha256") != network_sha256(net.path):
        raise ArtifactError(f"{path}: the core of another network than {net.path}; emit again")
    return manifest


def _require_replaceable(target: Path, force: bool) -> None:
    """Refuse to replace anything but, with `force`, an empty folder or a core and nothing else."""
    if not os.path.lexists(target):
        return
    if not force:
        raise UsageError(f"{target} exists; give `force=True` to replace it, or another folder")
    if not target.is_dir() or target.is_symlink():
        raise UsageError(f"{target} exists and is no folder; `force=True` replaces only cores")
    found = {each.name for each in target.iterdir()}
    if not found:
        return
    if MANIFEST not in found or not _is_core(target):
        raise UsageError(f"{target} exists and is not a core; `force=True` replaces only those")
    foreign = sorted(found - FILES - {MANIFEST})
    if foreign:
        raise UsageError(
            f"{target} is not a core alone: `force=True` would remove {some_of(foreign)} with it; move that away, "
            "or give another folder"
        )


def _is_core(target: Path) -> bool:
    try:
        with NetFolder(target) as folder:
            manifest = folder.json(MANIFEST)
    except ArtifactError:
        return False
    return isinstance(manifest, dict) and manifest.get("kind") == KIND


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

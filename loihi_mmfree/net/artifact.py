"""net/: a compiled network as a folder of plain files.

It is written whole or not at all, and the same input gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from loihi_mmfree.errors import ArtifactError, UsageError
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.serialize import graph_from_data, graph_to_data
from loihi_mmfree.loihi2.hardware import ChipSpec, system_from_mapping
from loihi_mmfree.net.tensor_file import map_tensors, write_tensors
from loihi_mmfree.place.check import require_complete
from loihi_mmfree.place.placement import Placement
from loihi_mmfree.scratch import NEW, put_in_place, scratch_beside

SCHEMA_VERSION = 2
MANIFEST, GRAPH, WEIGHTS = "manifest.json", "graph.json", "weights.safetensors"
CONFIG, GOLDEN, TOKENIZER = "config.toml", "golden.npz", "tokenizer.json"
PLACEMENT = "placement.json"
REPORT = "report"
"""Folder of what runs add to a network: no part of what was compiled, and so of no hash."""
LARGEST_JSON_BYTES = 256 * 2**20
_CHUNK = 2**20


@dataclass(frozen=True)
class Placed:
    """Where a network lies, and on what.

    Parameters
    ----------
    chip : ChipSpec
        The system with every limit as it was when the network was compiled.
    placement : Placement
    """

    chip: ChipSpec
    placement: Placement


@dataclass(frozen=True)
class Net:
    """A compiled network read back from its folder.

    Parameters
    ----------
    path : Path
        The folder.
    graph : Graph
        Lowered and scheduled, with its tensors and the system it was compiled for.
    manifest : mapping
        What manifest.json holds.
    """

    path: Path
    graph: Graph
    manifest: Mapping[str, Any]

    @cached_property
    def placed(self) -> Placed:
        """The placement, checked to hold every neuron once.

        Raises
        ------
        ArtifactError
            placement.json is damaged or of another network.
        """
        path = self.path / PLACEMENT
        data = _read_json(path)
        try:
            placement = Placement.from_dict(data["placement"])
            require_complete(self.graph, placement)
        except (KeyError, TypeError, ValueError) as error:
            raise _wrong_placement(path, error) from error
        return Placed(self.graph.chip, placement)

    @property
    def vocab_size(self) -> int:
        """Number of tokens the network knows."""
        return int(self.manifest["model"]["vocab_size"])

    @property
    def tokenizer_path(self) -> Path | None:
        """The tokenizer, if the checkpoint had one."""
        path = self.path / TOKENIZER
        return path if path.is_file() else None

    def golden(self) -> Mapping[str, np.ndarray]:
        """Return the ids and the integer messages recorded at compile time."""
        try:
            with np.load(self.path / GOLDEN, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{self.path / GOLDEN}: cannot be read: {error}; compile again") from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def network_sha256(net_path: str | Path) -> str:
    """Return what tells a compiled network from others: a hash over its graph and weights, by its manifest.

    Raises
    ------
    ArtifactError
        The manifest cannot be read.
    """
    files = _read_manifest(Path(net_path))["files"]
    return hashlib.sha256(f"{files.get(GRAPH)} {files.get(WEIGHTS)}".encode()).hexdigest()


def tensor_sha256(tensor: np.ndarray) -> str:
    """Return the SHA-256 of a tensor's type, shape and little-endian bytes."""
    digest = hashlib.sha256(f"{tensor.dtype.name} {list(tensor.shape)}".encode())
    little = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
    digest.update(np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_folder(target: Path, force: bool) -> Iterator[Path]:
    """Give a scratch folder beside `target` which takes its place when the block ends without an error.

    Raises
    ------
    UsageError
        `target` exists and `force` is not given, it cannot be replaced, or the disk is full. What was there
        before is still there.
    """
    if target.exists() and not force:
        raise UsageError(f"{target} exists; give --force to replace it, or another folder")
    if target.exists() and not (target / MANIFEST).is_file() and not _is_empty_folder(target):
        raise UsageError(f"{target} exists and is not a compiled network; --force replaces only those")
    with contextlib.ExitStack() as stack:
        try:
            scratch = stack.enter_context(scratch_beside(target))
        except OSError as error:
            raise UsageError(f"{target.absolute().parent}: cannot write there: {error.strerror}") from error
        try:
            new = scratch / NEW
            new.mkdir()
            yield new
            if not force and target.exists() and not _is_empty_folder(target):
                raise UsageError(
                    f"{target} was written by another program meanwhile; it is kept, this one is not written"
                )
            put_in_place(scratch, target)
        except OSError as error:
            raise UsageError(f"{target}: not written: {error.strerror}; nothing was changed") from error


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def write_net(
    folder: Path,
    graph: Graph,
    manifest: Mapping[str, Any],
    placed: Placed,
    config_toml: str,
    golden: Mapping[str, np.ndarray],
    tokenizer: str | None,
) -> None:
    """Write all files of a network into an existing folder.

    Parameters
    ----------
    folder : Path
        Usually what :func:`atomic_folder` gives.
    graph : Graph
        Lowered.
    manifest : mapping
        What is to be recorded about origin and settings; hashes, schema and versions are added here.
    placed : Placed
    config_toml : str
        The settings as used.
    golden : mapping name -> array
        Token ids and integer messages.
    tokenizer : str, optional
        Content of the tokenizer.json to take along.
    """
    write_tensors(folder / WEIGHTS, graph.tensors)
    (folder / GRAPH).write_text(_json(graph_to_data(graph)))
    where = {"chip": placed.chip.to_dict(), "placement": placed.placement.to_dict()}
    (folder / PLACEMENT).write_text(_json(where))
    (folder / CONFIG).write_text(config_toml)
    buffer = io.BytesIO()
    ordered: dict[str, Any] = {name: golden[name] for name in sorted(golden)}
    np.savez_compressed(buffer, **ordered)
    (folder / GOLDEN).write_bytes(buffer.getvalue())
    if tokenizer is not None:
        (folder / TOKENIZER).write_bytes(tokenizer.encode())
    files = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    tensors = {name: tensor_sha256(tensor) for name, tensor in sorted(graph.tensors.items())}
    complete = {"schema_version": SCHEMA_VERSION, **manifest, "files": files, "tensors": tensors}
    (folder / MANIFEST).write_text(_json(complete, indent=1))


def _json(data: Any, indent: int | None = None) -> str:
    return json.dumps(data, indent=indent, sort_keys=True, allow_nan=False) + "\n"


def load_net(path: str | Path, verify: bool = True) -> Net:
    """Read a compiled network and check it.

    Parameters
    ----------
    path : str or Path
        The folder that `compile` wrote.
    verify : bool
        Compare every file with its hash in the manifest. `compare` leaves it out, to say which tensor was
        altered.

    Raises
    ------
    ArtifactError
        Something is missing, damaged, altered, or of a newer schema.
    """
    folder = Path(path)
    manifest = _read_manifest(folder)
    if verify:
        _verify_files(folder, manifest)
    data = _read_json(folder / GRAPH)
    try:
        stored = map_tensors(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder / WEIGHTS}: cannot be read: {error}; compile again") from error
    try:
        graph = replace(graph_from_data(data, stored), chip=_read_chip(folder))
        for node in graph:
            node.check_tensors(graph.tensors)
        return Net(folder, graph, manifest)
    except ValueError as error:
        raise ArtifactError(f"{folder / GRAPH}: {error}; compile again") from error


def versions() -> dict[str, str]:
    """Return the versions of what the integers depend on; a package that is not installed is left out."""
    found = {}
    for package in ("loihi-mmfree", "numpy", "torch", "brevitas", "lava-nc", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def altered_tensors(net: Net) -> list[str]:
    """Return the names of the tensors that are not those the manifest lists."""
    listed: Mapping[str, str] = net.manifest["tensors"]
    found = {name: tensor_sha256(tensor) for name, tensor in net.graph.tensors.items()}
    return sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))


def _read_chip(folder: Path) -> ChipSpec:
    """The system that a network was compiled for, with its limits of then."""
    path = folder / PLACEMENT
    data = _read_json(path)
    try:
        return system_from_mapping(data["chip"], str(path), "")
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise _wrong_placement(path, error) from error


def _wrong_placement(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{path}: not the placement of this network: {error}; compile again")


def _read_manifest(folder: Path) -> Mapping[str, Any]:
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such folder; `loihi-mmfree compile` makes one")
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(f"{folder}: not a compiled network, {MANIFEST} is missing")
    manifest = _read_json(folder / MANIFEST)
    schema = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(schema, int):
        raise ArtifactError(f"{folder / MANIFEST}: has no schema_version; compile again")
    if schema != SCHEMA_VERSION:
        advice = "update loihi-mmfree" if schema > SCHEMA_VERSION else "compile again"
        raise ArtifactError(
            f"{folder / MANIFEST}: schema {schema}, this version reads schema {SCHEMA_VERSION}; {advice}"
        )
    missing = [key for key in ("files", "tensors", "model", "formats") if not isinstance(manifest.get(key), dict)]
    if missing:
        raise ArtifactError(f"{folder / MANIFEST}: lacks {', '.join(missing)}; compile again")
    return manifest


def _verify_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    listed: Mapping[str, Any] = manifest["files"]
    required = {GRAPH, WEIGHTS, PLACEMENT, CONFIG, GOLDEN}
    strange = sorted(name for name in listed if Path(name).name != name)
    if strange or required - listed.keys():
        wrong = strange or sorted(required - listed.keys())
        raise ArtifactError(f"{folder / MANIFEST}: its file list is wrong: {', '.join(wrong)}; compile again")
    for name, expected in listed.items():
        if not (folder / name).is_file():
            raise ArtifactError(f"{folder / name}: missing; compile again")
        found = file_sha256(folder / name)
        if found != expected:
            raise ArtifactError(
                f"{folder / name}: SHA-256 {found[:16]}…, the manifest says {str(expected)[:16]}…; the file was "
                f"altered or damaged: `loihi-mmfree compare {folder}` names what differs, or compile again"
            )


def _read_json(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise ArtifactError(f"{path}: larger than {LARGEST_JSON_BYTES} bytes, which no compilation writes")
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: missing; compile again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}; compile again") from error

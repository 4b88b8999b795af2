"""net/: a compiled network as a folder of plain files.

It is written whole or not at all, and the same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.errors import ArtifactError, UsageError
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.serialize import graph_from_data, graph_to_data
from loihi_mmfree.loihi2.hardware import ChipSpec, system_from_mapping
from loihi_mmfree.net.check import check_agreement, check_golden, check_graph, check_manifest
from loihi_mmfree.net.folder import (
    CONFIG,
    GOLDEN,
    GRAPH,
    LARGEST_GOLDEN_BYTES,
    MANIFEST,
    PLACEMENT,
    REQUIRED,
    TOKENIZER,
    WEIGHTS,
    NetFolder,
    read_folder,
)
from loihi_mmfree.net.tensor_file import read_tensors, write_tensors
from loihi_mmfree.place.check import exceeded_places, require_complete
from loihi_mmfree.place.placement import Placement
from loihi_mmfree.units import bytes_text
from loihi_mmfree.untrusted import cut, parse_npz, short, some_of

SCHEMA_VERSION = 2


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
    identity : pair of int
        Of the folder that was read: what is read later is of the same one.
    """

    path: Path
    graph: Graph
    manifest: Mapping[str, Any]
    identity: tuple[int, int]

    @cached_property
    def placed(self) -> Placed:
        """The placement, checked to hold every neuron once.

        Raises
        ------
        ArtifactError
            placement.json is damaged or of another network.
        """
        path = self.path / PLACEMENT
        data = read_folder(self.path, lambda folder: folder.json(PLACEMENT), self.identity)
        try:
            placement = Placement.from_dict(data["placement"])
            require_complete(self.graph, placement)
            beyond = [str(each) for each in exceeded_places(self.graph.chip, placement)]
            if beyond:
                raise ValueError(some_of(beyond))
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
        return self.path / TOKENIZER if TOKENIZER in self.manifest["files"] else None

    def golden(self) -> Mapping[str, NDArray[np.int32]]:
        """Return the ids and the integer messages recorded at compile time.

        Raises
        ------
        ArtifactError
            golden.npz is damaged or of another network.
        """

        def read(folder: NetFolder) -> Mapping[str, NDArray[np.int32]]:
            try:
                arrays = parse_npz(folder.read(GOLDEN, LARGEST_GOLDEN_BYTES), LARGEST_GOLDEN_BYTES)
                check_golden(self.graph, arrays)
                return arrays
            except ValueError as error:
                raise folder.unreadable(GOLDEN, error) from error

        return read_folder(self.path, read, self.identity)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with NetFolder(path.parent) as folder:
        return folder.sha256(path.name)


def network_sha256(net_path: str | Path) -> str:
    """Return what tells a compiled network from others: a hash over its graph and weights, by its manifest.

    Raises
    ------
    ArtifactError
        The manifest cannot be read.
    """
    files = read_folder(Path(net_path), _read_manifest)["files"]
    return hashlib.sha256(f"{files.get(GRAPH)} {files.get(WEIGHTS)}".encode()).hexdigest()


def tensor_sha256(tensor: np.ndarray) -> str:
    """Return the SHA-256 of a tensor's type, shape and little-endian bytes."""
    digest = hashlib.sha256(f"{tensor.dtype.name} {list(tensor.shape)}".encode())
    little = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
    digest.update(np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()


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
    if sum(each.nbytes for each in golden.values()) > LARGEST_GOLDEN_BYTES // 2:
        raise UsageError(
            f"golden.npz would take more than {bytes_text(LARGEST_GOLDEN_BYTES / 2)}; choose fewer golden_tokens"
        )
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
    return read_folder(Path(path), lambda folder: _load(folder, verify))


def _load(folder: NetFolder, verify: bool) -> Net:
    manifest = _read_manifest(folder)
    if verify:
        _verify_files(folder, manifest)
    data = folder.json(GRAPH)
    with folder.open(WEIGHTS) as file:
        try:
            stored, sha256 = read_tensors(file, str(folder.path / WEIGHTS))
        except (OSError, ValueError) as error:
            raise folder.unreadable(WEIGHTS, error) from error
    if verify:
        _require_equal(folder, WEIGHTS, sha256, manifest["files"][WEIGHTS])
    try:
        graph = replace(graph_from_data(data, stored), chip=_read_chip(folder))
        check_graph(graph)
        check_agreement(manifest, graph)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ArtifactError(f"{folder.path / GRAPH}: {cut(error)}; compile again") from error
    return Net(folder.path, graph, manifest, folder.identity)


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
    found = {name: tensor_sha256(np.asarray(tensor)) for name, tensor in net.graph.tensors.items()}
    return sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))


def _read_chip(folder: NetFolder) -> ChipSpec:
    """The system that a network was compiled for, with its limits of then."""
    path = folder.path / PLACEMENT
    data = folder.json(PLACEMENT)
    try:
        return system_from_mapping(data["chip"], str(path), "")
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise _wrong_placement(path, error) from error


def _wrong_placement(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{path}: not the placement of this network: {cut(error)}; compile again")


def _read_manifest(folder: NetFolder) -> Mapping[str, Any]:
    where = folder.path / MANIFEST
    if not folder.holds(MANIFEST):
        raise ArtifactError(f"{folder.path}: not a compiled network, {MANIFEST} is missing")
    manifest = folder.json(MANIFEST)
    schema = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise ArtifactError(f"{where}: has no schema_version; compile again")
    if schema != SCHEMA_VERSION:
        advice = "update loihi-mmfree" if schema > SCHEMA_VERSION else "compile again"
        raise ArtifactError(
            f"{where}: schema {short(schema)}, this version reads schema {SCHEMA_VERSION}; {advice}"
        )
    return check_manifest(manifest, str(where))


def _verify_files(folder: NetFolder, manifest: Mapping[str, Any]) -> None:
    """Hold every file but the weights, which are hashed where they are read, against the manifest."""
    listed: Mapping[str, str] = manifest["files"]
    wrong = sorted(listed.keys() - REQUIRED - {TOKENIZER}) or sorted(REQUIRED - listed.keys())
    if wrong:
        raise ArtifactError(f"{folder.path / MANIFEST}: its file list is wrong: {some_of(wrong)}; compile again")
    for name, expected in listed.items():
        if name != WEIGHTS:
            _require_equal(folder, name, folder.sha256(name), expected)


def _require_equal(folder: NetFolder, name: str, found: str, expected: str) -> None:
    if found != expected:
        raise ArtifactError(
            f"{folder.path / name}: SHA-256 {found[:16]}…, the manifest says {expected[:16]}…; the file was "
            f"altered or damaged: `loihi-mmfree compare {folder.path}` names what differs, or compile again"
        )

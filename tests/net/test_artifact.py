"""net/ in and out: whole or not at all, the same bytes for the same input, and nothing damaged gets in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from loihi_mmfree import scratch
from loihi_mmfree.compiler.pipeline import compile_checkpoint
from loihi_mmfree.errors import ArtifactError, UsageError
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.net.artifact import Net, altered_tensors, file_sha256, load_net
from loihi_mmfree.net.folder import atomic_folder


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def test_the_same_checkpoint_gives_the_same_bytes(tiny_net: Net, tiny_checkpoint: Path, tmp_path: Path) -> None:
    again, _ = compile_checkpoint(tiny_checkpoint, tmp_path / "again")
    assert _contents(again.path) == _contents(tiny_net.path)


def test_a_network_read_back_is_the_one_written(tiny_net: Net, reloaded: Net) -> None:
    assert reloaded.graph.nodes == tiny_net.graph.nodes
    assert reloaded.graph.tensors.keys() == tiny_net.graph.tensors.keys()
    for name, tensor in tiny_net.graph.tensors.items():
        np.testing.assert_array_equal(reloaded.graph.tensors[name], tensor)


def test_weights_take_two_bits_each(tiny_net: Net) -> None:
    stored = load_file(tiny_net.path / "weights.safetensors")
    codes = {name: tensor for name, tensor in stored.items() if name.endswith(".codes")}
    weights = sum(node.rows * node.columns for node in tiny_net.graph if isinstance(node, TernarySynapse))
    assert sum(tensor.nbytes for tensor in codes.values()) == weights / 4


def test_every_file_is_listed_with_its_hash(tiny_net: Net) -> None:
    manifest = json.loads((tiny_net.path / "manifest.json").read_text())
    found = {path.name: file_sha256(path) for path in tiny_net.path.iterdir() if path.name != "manifest.json"}
    assert manifest["files"] == found


def test_the_folder_holds_no_pickle(tiny_net: Net) -> None:
    with np.load(tiny_net.path / "golden.npz", allow_pickle=False) as golden:
        assert all(golden[name].dtype.kind == "i" for name in golden.files)


@pytest.mark.parametrize("name", ["weights.safetensors", "graph.json", "golden.npz", "config.toml"])
def test_an_altered_file_is_named(net_copy: Path, name: str) -> None:
    damaged = bytearray((net_copy / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (net_copy / name).write_bytes(damaged)
    with pytest.raises(ArtifactError, match=name):
        load_net(net_copy)


@pytest.mark.parametrize("name", ["weights.safetensors", "graph.json", "golden.npz", "manifest.json"])
def test_a_missing_file_is_named(net_copy: Path, name: str) -> None:
    (net_copy / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        load_net(net_copy)


@pytest.mark.parametrize("name", ["weights.safetensors", "graph.json"])
def test_a_truncated_file_is_refused_even_without_hashes(net_copy: Path, name: str) -> None:
    (net_copy / name).write_bytes((net_copy / name).read_bytes()[:100])
    with pytest.raises(ArtifactError, match=name):
        load_net(net_copy, verify=False)


def test_a_newer_schema_is_refused_with_advice_to_update(net_copy: Path) -> None:
    _edit_manifest(net_copy, lambda manifest: manifest.update(schema_version=99))
    with pytest.raises(ArtifactError, match=r"schema 99.*update loihi-mmfree"):
        load_net(net_copy)


def test_a_manifest_cannot_point_outside_the_folder(net_copy: Path) -> None:
    _edit_manifest(net_copy, lambda manifest: manifest["files"].update({"../secret": "0"}))
    with pytest.raises(ArtifactError, match="file list is wrong"):
        load_net(net_copy)


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema_version": "1"}', "not json", "[" * 100_000])
def test_a_manifest_of_another_kind_is_refused(net_copy: Path, content: str) -> None:
    (net_copy / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match="manifest"):
        load_net(net_copy)


@pytest.mark.parametrize(
    "damage",
    [
        lambda graph: graph[0].update(type="Exploit"),
        lambda graph: graph[1].pop("program"),
        lambda graph: graph[-1]["inputs"].__setitem__(0, ["nowhere", "out"]),
        lambda graph: graph[0].update(size="big"),
        lambda graph: graph[1]["program"]["instructions"].append(["eval", "r999", [], 0, 8]),
    ],
    ids=["unknown type", "missing field", "unknown source", "wrong type", "unknown instruction"],
)
def test_a_graph_that_makes_no_sense_is_refused(net_copy: Path, damage: Callable[[Any], None]) -> None:
    path = net_copy / "graph.json"
    graph = json.loads(path.read_text())
    damage(graph)
    path.write_text(json.dumps(graph))
    with pytest.raises(ArtifactError, match=r"graph\.json"):
        load_net(net_copy, verify=False)


def test_a_tensor_of_the_wrong_shape_is_refused(net_copy: Path) -> None:
    stored = load_file(net_copy / "weights.safetensors")
    stored["layers.1.attn.f_proj.codes"] = stored["layers.1.attn.f_proj.codes"][:-1]
    save_file(stored, net_copy / "weights.safetensors")
    with pytest.raises(ArtifactError, match=r"layers\.1\.attn\.f_proj\.codes"):
        load_net(net_copy, verify=False)


def test_an_altered_tensor_is_named(net_copy: Path) -> None:
    stored = load_file(net_copy / "weights.safetensors")
    stored["tables.sigmoid"][40] += 1
    save_file(stored, net_copy / "weights.safetensors")
    assert altered_tensors(load_net(net_copy, verify=False)) == ["tables.sigmoid"]


def test_an_existing_folder_is_left_alone_without_force(net_copy: Path, tiny_checkpoint: Path) -> None:
    before = _contents(net_copy)
    with pytest.raises(UsageError, match="`force=True`"):
        compile_checkpoint(tiny_checkpoint, net_copy)
    assert _contents(net_copy) == before


def test_force_replaces_a_network(tmp_path: Path, net_copy: Path) -> None:
    with atomic_folder(net_copy, force=True) as folder:
        (folder / "manifest.json").write_text("new")
    assert _contents(net_copy) == {"manifest.json": b"new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net"]


def test_force_never_replaces_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    with pytest.raises(UsageError, match="not a compiled network"), atomic_folder(tmp_path / "thesis", force=True):
        pass
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "precious"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_what_was_there_and_nothing_else(
    net_copy: Path, tmp_path: Path, error: type[BaseException]
) -> None:
    def write_half() -> None:
        with atomic_folder(net_copy, force=True) as folder:
            (folder / "graph.json").write_text("half")
            raise error

    before = _contents(net_copy)
    with pytest.raises(error):
        write_half()
    assert _contents(net_copy) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net"]


def test_a_network_that_another_program_wrote_meanwhile_is_kept(tmp_path: Path) -> None:
    def write_slowly() -> None:
        with atomic_folder(tmp_path / "net", force=False) as folder:
            (folder / "manifest.json").write_text("second")
            with atomic_folder(tmp_path / "net", force=False) as other:
                (other / "manifest.json").write_text("first")

    with pytest.raises(UsageError, match="another program meanwhile; it is kept"):
        write_slowly()
    assert _contents(tmp_path / "net") == {"manifest.json": b"first"}
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_an_interrupt_between_the_two_moves_of_a_replacement_loses_nothing(
    net_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, interrupts = os.replace, [KeyboardInterrupt()]

    def interrupted(source: Path, target: Path) -> None:
        if target == net_copy and interrupts:
            raise interrupts.pop()
        replace(source, target)

    before = _contents(net_copy)
    monkeypatch.setattr(scratch, "exchange", lambda one, other: False)  # As on a system without it.
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_folder(net_copy, force=True) as folder:
        (folder / "manifest.json").write_text("new")
    assert _contents(net_copy) == before
    assert [path.name for path in tmp_path.iterdir()] == ["net"]

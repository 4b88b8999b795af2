"""An emitted core is whole, the same every time, and says when it was altered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("amaranth")

from loihi_mmfree.errors import ArtifactError, DoesNotFitError, UsageError
from loihi_mmfree.fixedpoint.ternary import unpack_ternary
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.rtl.build import build
from loihi_mmfree.rtl.emission import FILES, Emission, check_emission, emit_core
from loihi_mmfree.rtl.parameters import Size

SMALL = Size(weights_per_cycle=32, lanes=4)


@pytest.fixture(scope="module")
def emission(tiny_net: Net, tmp_path_factory: pytest.TempPathFactory) -> Emission:
    return emit_core(tiny_net, tmp_path_factory.mktemp("rtl") / "core", SMALL)


@pytest.fixture
def copy(emission: Emission, tmp_path: Path) -> Path:
    return Path(shutil.copytree(emission.path, tmp_path / "core"))


def test_a_core_is_whole(emission: Emission, tiny_net: Net) -> None:
    assert {path.name for path in emission.path.iterdir()} == FILES | {"manifest.json"}
    assert check_emission(emission.path, tiny_net) == emission.manifest
    assert "module mmfree_core(" in (emission.path / "core.v").read_text()


def test_the_weight_stream_holds_every_row_of_every_product_in_order(emission: Emission, tiny_net: Net) -> None:
    stream = np.frombuffer((emission.path / "weights.bin").read_bytes(), dtype=np.uint8)
    for product in emission.image.schedule.products:
        synapse, words = product.synapse, product.words(SMALL.weights_per_cycle)
        taken, stream = np.split(stream, [synapse.rows * words * SMALL.weights_per_cycle // 4])
        codes = unpack_ternary(taken.reshape(synapse.rows, -1), words * SMALL.weights_per_cycle)
        np.testing.assert_array_equal(codes[:, : synapse.columns], synapse.weights(tiny_net.graph.tensors))
        assert not codes[:, synapse.columns :].any()
    assert stream.size == 0


def test_the_listing_names_every_group_and_every_product(emission: Emission, tiny_net: Net) -> None:
    text = (emission.path / "listing.txt").read_text()
    for node in tiny_net.graph:
        if type(node).__name__ in ("NeuronGroup", "TernarySynapse"):
            assert node.name in text


def test_the_same_network_gives_the_same_bytes(emission: Emission, tiny_net: Net, tmp_path: Path) -> None:
    again = emit_core(tiny_net, tmp_path / "again", SMALL)
    assert again.manifest == emission.manifest


@pytest.mark.parametrize("name", sorted(FILES))
def test_an_altered_file_is_named(name: str, copy: Path, tiny_net: Net) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{name}: SHA-256 .* the file was altered or damaged; emit again"):
        check_emission(copy, tiny_net)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda manifest: manifest.pop("kind"), "not the manifest of a core"),
        (lambda manifest: manifest.update(schema_version=9), "not of schema 1; emit again"),
        (lambda manifest: manifest["files"].pop("core.v"), "its file list is wrong; emit again"),
        (lambda manifest: manifest.update(network_sha256="0" * 64), "the core of another network"),
    ],
)
def test_a_manifest_of_something_else_is_refused(
    change: Callable[[dict], object], said: str, copy: Path, tiny_net: Net
) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    change(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=said):
        check_emission(copy, tiny_net)


def test_only_a_core_is_replaced(tiny_net: Net, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists; give `force=True` to replace it"):
        emit_core(tiny_net, copy, SMALL)
    (copy / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"would remove mine\.txt with it"):
        emit_core(tiny_net, copy, SMALL, force=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not a core; `force=True` replaces only those"):
        emit_core(tiny_net, tmp_path / "other", SMALL, force=True)
    assert (copy / "mine.txt").read_text() == (tmp_path / "other" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["registers", "scalars"])
def test_a_network_that_needs_more_than_the_core_has_is_refused(name: str, tiny_net: Net) -> None:
    with pytest.raises(DoesNotFitError, match=rf"give .* more \(`{name}`\)"):
        build(tiny_net.graph, replace(SMALL, **{name: 3}))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weights_per_cycle": 100}, "weights_per_cycle: no core has 100; known: 32, 64, 128, 256"),
        ({"lanes": 3}, "lanes: no core has 3; known: 4, 8, 16, 32"),
        ({"registers": 33}, "registers: 2 to 32, found 33"),
    ],
)
def test_a_size_that_no_core_has_is_refused(given: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Size(**given)

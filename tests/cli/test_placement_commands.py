"""Placement as a user meets it: options of compile, tables of inspect, refusals that help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loihi_mmfree.net.artifact import Net

Call = Callable[..., Any]
DOES_NOT_FIT = 5


@pytest.fixture(scope="module")
def expected_sha256(tiny_net: Net) -> str:
    """What the network of default settings computes."""
    from loihi_mmfree import api

    return api.run(tiny_net, [1, 17, 42], 3, backend="engine").logits_sha256


def test_inspect_says_where_the_network_lies(call: Call, tiny_net: Net) -> None:
    document = call("inspect", tiny_net.path, "--json").document
    assert (document["chip"], document["head"], document["weight_bits"]) == ("loihi2", "host", 8)
    assert document["chips_used"] == len(document["chips"]) == 1
    assert document["cores_used"] == len(document["cores"])
    for total, resource in (("neurons", "neurons"), ("synapse_bytes", "synapse_bytes")):
        assert document[total] == sum(core["usage"][resource][0] for core in document["cores"])
    fullest = document["fullest_core"]
    assert fullest["load"] == max(core["load"] for core in document["cores"])
    used, limit = fullest["usage"][fullest["fullest_resource"]]
    assert fullest["load"] == used / limit <= 1


def test_inspect_shows_blocks_chips_and_the_fullest_cores(call: Call, tiny_net: Net) -> None:
    shown = call("inspect", tiny_net.path).out
    for words in ("layers.3", "Chips", "Fullest cores", "fullest resource", "between chips"):
        assert words in shown
    assert "nothing was measured on hardware" in shown


def compiled_sha256(call: Call, checkpoint: Path, net: Path, *options: object) -> str:
    """What a network computes that was compiled with other options."""
    assert call("compile", checkpoint, "-o", net, *options).code == 0
    called = call("run", net, "--backend", "engine", "--ids", "1,17,42", "-n", 3, "--json")
    return str(called.document["logits_sha256"])


@pytest.mark.parametrize(
    "options",
    [["--weight-bits", 2], ["--chip", "kapoho-point", "--objective", "speed", "--chips", 4]],
    ids=["weights", "speed"],
)
def test_placement_changes_no_result(
    call: Call, tiny_checkpoint: Path, tmp_path: Path, options: list[object], expected_sha256: str
) -> None:
    assert compiled_sha256(call, tiny_checkpoint, tmp_path / "net", *options) == expected_sha256


def test_the_head_on_chip_is_placed_and_said_and_changes_no_result(
    call: Call, tiny_checkpoint: Path, tmp_path: Path, expected_sha256: str
) -> None:
    assert compiled_sha256(call, tiny_checkpoint, tmp_path / "net", "--head", "chip") == expected_sha256
    document = call("inspect", tmp_path / "net", "--json").document
    head = next(block for block in document["blocks"] if block["name"] == "lm_head")
    assert document["head"] == "chip"
    assert head["cores"] > 0
    assert head["synapse_bytes"] > 128 * 512


class TestRefusal:
    @pytest.fixture
    def small(self, tmp_path: Path) -> Path:
        """A system of four cores."""
        path = tmp_path / "small.toml"
        path.write_text("chips = 1\nchip_rows = 1\nchip_columns = 1\ncores_per_chip = 4\n")
        return path

    def test_names_what_is_exceeded_and_an_option_and_writes_nothing(
        self, call: Call, tiny_checkpoint: Path, tmp_path: Path, small: Path
    ) -> None:
        called = call("compile", tiny_checkpoint, "-o", tmp_path / "net", "--chip", small)
        assert called.code == DOES_NOT_FIT
        assert "small" in called.err
        assert "--weight-bits 2" in called.err
        assert not (tmp_path / "net").exists()

    def test_that_option_applied_works(
        self, call: Call, tiny_checkpoint: Path, tmp_path: Path, small: Path
    ) -> None:
        called = call(
            "compile", tiny_checkpoint, "-o", tmp_path / "net", "--chip", small, "--weight-bits", 2, "--json"
        )
        assert called.code == 0
        assert called.document["cores_used"] <= 4

"""vectors, as whoever writes a neurocore model calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loihi_mmfree.net.artifact import Net

Call = Callable[..., Any]
NODES = ("layers.0.attn_norm.rms", "layers.0.attn.i_proj")


def test_nodes_that_are_named_are_written_and_listed(call: Call, tiny_net: Net, tmp_path: Path) -> None:
    target = tmp_path / "vectors"
    called = call("vectors", tiny_net.path, "-o", target, "--node", NODES[0], "--node", NODES[1], "--json")
    assert called.code == 0, called.err
    assert called.document["path"] == str(target)
    assert [each["node"] for each in called.document["nodes"]] == list(NODES)
    assert called.document["nodes"][1]["cases"] == {
        "golden": 8,
        "silence": 1,
        "ends": 2,
        "largest": 2,
        "random": 16,
    }
    assert "8 golden, 1 silence, 2 ends, 2 largest, 16 random" in called.out
    assert {path.name for path in target.iterdir()} == {"vectors.json", "check_vectors.py", "nodes"}
    assert json.loads((target / "vectors.json").read_text())["schema_version"] == 1


def test_a_node_without_vectors_is_refused_with_those_that_have_some(
    call: Call, tiny_net: Net, tmp_path: Path
) -> None:
    called = call(
        "vectors", tiny_net.path, "-o", tmp_path / "vectors", "--node", "layers.0.attn_norm.scale.value_delay"
    )
    assert called.code == 2
    assert "no neuron group, and no synapse that adds up; there are layers.0.attn_norm.scale" in called.err
    assert list(tmp_path.iterdir()) == []

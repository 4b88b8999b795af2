"""loihi-mmfree emit: a core is written, held against its hashes, and refused where none can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("amaranth")

from loihi_mmfree.net.artifact import Net

Call = Callable[..., Any]
SMALL = ("--weights-per-cycle", 32, "--lanes", 4)


def test_emit_writes_a_core_and_tells_one_that_was_altered(call: Call, tiny_net: Net, tmp_path: Path) -> None:
    core = tmp_path / "core"
    made = call("emit", tiny_net.path, "-o", core, *SMALL, "--json")
    assert made.code == 0
    assert f"{core}: 32 weights a cycle, 4 lanes; " in made.out
    assert made.document["cycles_a_token"]["cycles"] > made.document["weight_words"]
    checked = call("emit", tiny_net.path, "-o", core, "--check")
    assert checked.out == f"{core}: whole, and the core of {tiny_net.path}\n"
    (core / "weights.bin").write_bytes(b"")
    altered = call("emit", tiny_net.path, "-o", core, "--check")
    assert altered.code == 3
    assert "weights.bin: SHA-256" in altered.err
    again = call("emit", tiny_net.path, "-o", core, *SMALL)
    assert again.code == 2
    assert "give --force to replace it" in again.err


def test_a_size_that_no_core_has_is_refused(call: Call, tiny_net: Net, tmp_path: Path) -> None:
    refused = call("emit", tiny_net.path, "-o", tmp_path / "core", "--lanes", 3)
    assert refused.code == 2
    assert "lanes: no core has 3; known: 4, 8, 16, 32" in refused.err
    assert not (tmp_path / "core").exists()

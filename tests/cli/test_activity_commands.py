"""run --activity: what is counted, and where it is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.compiler.artifact import load_net

Call = Callable[..., Any]
needs_lava = pytest.mark.skipif(find_spec("lava") is None, reason="Lava imports on Python 3.10 only")


@pytest.mark.parametrize(
    "options",
    [
        ["--backend", "engine"],
        ["--backend", "engine", "--kernels", "numpy"],
        pytest.param(["--backend", "sim"], marks=needs_lava),
    ],
    ids=["compiled", "numpy", "lava"],
)
def test_counts_are_those_of_the_golden_messages(call: Call, net_copy: Path, options: list[str]) -> None:
    golden = load_net(net_copy).golden()
    prompt = ",".join(map(str, golden["ids"]))
    assert call("run", net_copy, *options, "--ids", prompt, "-n", 0, "--activity").code == 0
    kept = json.loads((net_copy / "report" / "activity.json").read_text())
    assert kept["tokens"] == len(golden["ids"])
    assert kept["messages"]
    for port, count in kept["messages"].items():
        assert count == np.count_nonzero(golden[port]), port


def test_a_recorded_activity_is_no_alteration_of_the_network(call: Call, net_copy: Path) -> None:
    call("run", net_copy, "--backend", "engine", "--ids", "1,2", "-n", 0, "--activity")
    assert call("run", net_copy, "--backend", "engine", "--ids", "1,2", "-n", 0).code == 0


def test_where_messages_cannot_be_seen_is_said_with_what_works(call: Call, net_copy: Path) -> None:
    called = call("run", net_copy, "--granularity", "network", "--ids", "1", "-n", 0, "--activity")
    assert called.code == 2
    assert "operator granularity" in called.err

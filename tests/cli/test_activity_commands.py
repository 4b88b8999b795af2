"""run --activity: what is counted, and where it is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.net.artifact import load_net

Call = Callable[..., Any]
needs_lava = pytest.mark.skipif(find_spec("lava") is None, reason="Lava is not installed")


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
    with np.load(net_copy / "report" / "activity.npz", allow_pickle=False) as table:
        kept = json.loads(table["totals"].tobytes())
        outputs, messages = table["outputs"].tolist(), table["messages"]
    assert kept["tokens"] == len(golden["ids"])
    assert kept["messages"]
    assert outputs == list(kept["messages"])
    for port, counts in zip(outputs, messages.T, strict=True):
        np.testing.assert_array_equal(counts, np.count_nonzero(golden[port], axis=1), err_msg=port)
        assert kept["messages"][port] == counts.sum()


def test_a_recorded_activity_is_no_alteration_of_the_network(call: Call, net_copy: Path) -> None:
    call("run", net_copy, "--backend", "engine", "--ids", "1,2", "-n", 0, "--activity")
    assert call("run", net_copy, "--backend", "engine", "--ids", "1,2", "-n", 0).code == 0


def test_an_activity_of_an_older_version_is_an_error_that_says_what_to_do(call: Call, net_copy: Path) -> None:
    call("run", net_copy, "--backend", "engine", "--ids", "1,2", "-n", 0, "--activity")
    totals = np.frombuffer(json.dumps({"schema_version": 1}).encode(), dtype=np.uint8)
    np.savez(net_copy / "report" / "activity.npz", totals=totals)
    called = call("report", net_copy)
    assert called.code == 3
    assert "schema 1, expected 4; record it again: `loihi-mmfree run NET" in " ".join(called.err.split())


def test_where_messages_cannot_be_seen_is_said_with_what_works(call: Call, net_copy: Path) -> None:
    called = call("run", net_copy, "--granularity", "network", "--ids", "1", "-n", 0, "--activity")
    assert called.code == 2
    assert "operator granularity" in called.err

"""The files of a recorded activity: read back whole, or refused with what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.activity.counts import Activity, worst_case
from loihi_mmfree.activity.file import RECORDING, load_activity, save_activity
from loihi_mmfree.activity.incidents import Incidents
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.errors import ArtifactError, UsageError
from loihi_mmfree.ir.executor import counting_nodes
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.engine.specification import Engine

INCIDENTS = [[0, 2, 3, 0], [2, 1, 0, 1], [2, 2, 4, 5]]
"""Token, node, saturations, overflows."""


@pytest.fixture(scope="module")
def activity(tiny_net: Net) -> Activity:
    """Of the golden ids, with histograms, and with incidents put in."""
    recorder = ActivityRecorder(tiny_net.graph, histograms=True)
    Engine(tiny_net.graph, observer=recorder.observer).read(tiny_net.golden()["ids"].astype(np.int64))
    incidents = Incidents(counting_nodes(tiny_net.graph), np.array(INCIDENTS, dtype=np.int32))
    return replace(recorder.activity("golden ids", [5, 7]), incidents=incidents)


def refused(net_copy: Path, net: Net, match: str) -> None:
    with pytest.raises(ArtifactError, match=match) as caught:
        load_activity(net_copy, net.graph)
    assert f"record it again: {RECORDING}" in str(caught.value)


def test_a_saved_activity_is_read_back(net_copy: Path, tiny_net: Net, activity: Activity) -> None:
    save_activity(net_copy, activity)
    found = load_activity(net_copy, tiny_net.graph)
    assert found == activity
    assert found is not None
    assert found.incidents.rows.tolist() == INCIDENTS
    assert found.by_token is not None
    assert activity.by_token is not None
    np.testing.assert_array_equal(found.by_token, activity.by_token)


def test_no_recorded_activity_is_none(net_copy: Path, tiny_net: Net) -> None:
    assert load_activity(net_copy, tiny_net.graph) is None


def test_what_was_not_recorded_is_not_kept(net_copy: Path, tiny_net: Net) -> None:
    with pytest.raises(ValueError, match="only a recorded activity"):
        save_activity(net_copy, worst_case(tiny_net.graph))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schema_version": 2}, "schema 2, expected 4"),
        ({"tokens": 0}, "tokens must be"),
        ({"tokens": 7}, "its totals are not those of its tables"),
        ({"messages": {"a:b": -1}}, "messages must be counts"),
        ({"messages": {"another:out": 3}}, "its totals are not those of its tables"),
        ({"saturations": 3}, "saturations must be counts"),
        ({"saturations": {}}, "its totals are not those of its tables"),
        ({"overflows": {"embeddings": 1}}, "its totals are not those of its tables"),
        ({"histograms": {"another:out": [1] * 25}}, "its totals are not those of its tables"),
        ({"histograms": {"embeddings:out": "many"}}, "histograms must be"),
        ({"histograms": {"embeddings:out": [1] * 24}}, "histograms must be lists of 25 counts"),
        ({"histograms": {"embeddings:out": [-1] * 25}}, "histograms must be lists of 25 counts"),
        ({"origin": None}, "origin must be"),
        ({"ids_sha256": 7}, "ids_sha256 must be"),
        ({"network_sha256": "of another"}, "another network"),
    ],
)
def test_altered_totals_are_refused(
    net_copy: Path, tiny_net: Net, activity: Activity, change: dict[str, Any], match: str
) -> None:
    path = save_activity(net_copy, activity)
    rewrite_totals(path, change)
    refused(net_copy, tiny_net, match)


def test_histograms_of_other_values_are_refused(net_copy: Path, tiny_net: Net, activity: Activity) -> None:
    path = save_activity(net_copy, activity)
    histograms = totals(path)["histograms"]
    histograms["embeddings:out"][3] += 1
    rewrite_totals(path, {"histograms": histograms})
    refused(net_copy, tiny_net, "its totals are not those of its tables")


def test_activity_of_a_network_of_the_same_shape_is_refused(
    net_copy: Path, tiny_net: Net, activity: Activity
) -> None:
    manifest = net_copy / "manifest.json"
    save_activity(net_copy, activity)
    data = json.loads(manifest.read_text())
    data["files"]["weights.safetensors"] = data["files"]["weights.safetensors"][::-1]
    manifest.write_text(json.dumps(data))
    refused(net_copy, tiny_net, "counts of another network")


@pytest.mark.parametrize("text", ["not json", "[]", "[" * 100_000])
def test_totals_that_are_something_else_are_refused(
    net_copy: Path, tiny_net: Net, activity: Activity, text: str
) -> None:
    rewrite(save_activity(net_copy, activity), totals=as_bytes(text))
    refused(net_copy, tiny_net, "cannot be read")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)


def plain_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def pickled(path: Path) -> None:
    np.savez(path, messages=np.array([object()]), outputs=np.array(["a"]), incidents=[], nodes=[])


@pytest.mark.parametrize("damage", [cut, flip, plain_array, pickled])
def test_a_damaged_file_is_refused(
    net_copy: Path, tiny_net: Net, activity: Activity, damage: Callable[[Path], None]
) -> None:
    damage(save_activity(net_copy, activity))
    refused(net_copy, tiny_net, "activity.npz: cannot be read")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda table, names: (table[:-1], names), "its totals are not those of its tables"),
        (lambda table, names: (np.maximum(table - 1, 0), names), "its totals are not those of its tables"),
        (lambda table, names: (table + 1000, names), "another network"),
        (lambda table, names: (-table, names), "another network"),
        (lambda table, names: (table.astype(np.float64), names), "another network"),
        (lambda table, names: (table[:, :-1], names), "another network"),
        (lambda table, names: (table, names[::-1]), "another network"),
    ],
)
def test_a_table_that_is_not_of_these_totals_is_refused(
    net_copy: Path, tiny_net: Net, activity: Activity, change: Callable[..., Any], match: str
) -> None:
    path = save_activity(net_copy, activity)
    messages, outputs = change(activity.by_token, np.array(list(activity.messages)))
    rewrite(path, messages=messages, outputs=outputs)
    refused(net_copy, tiny_net, match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda rows, names: (rows[:-1], names), "its totals are not those of its tables"),
        (lambda rows, names: (np.add(rows, [0, 0, 1, 0]), names), "its totals are not those of its tables"),
        (lambda rows, names: (np.add(rows, [1000, 0, 0, 0]), names), "tokens that were not read"),
        (lambda rows, names: (np.subtract(rows, [0, 0, 9, 0]), names), "tokens that were not read"),
        (lambda rows, names: (np.add(rows, [0, 1000, 0, 0]), names), "another network"),
        (lambda rows, names: (-rows, names), "another network"),
        (lambda rows, names: (rows.astype(np.float64), names), "another network"),
        (lambda rows, names: (rows[:, :-1], names), "another network"),
        (lambda rows, names: (rows, names[::-1]), "another network"),
    ],
)
def test_incidents_that_are_not_of_these_totals_are_refused(
    net_copy: Path, tiny_net: Net, activity: Activity, change: Callable[..., Any], match: str
) -> None:
    path = save_activity(net_copy, activity)
    rows, nodes = change(activity.incidents.rows, np.array(activity.incidents.nodes))
    rewrite(path, incidents=rows.astype(np.int32) if rows.dtype == np.int64 else rows, nodes=nodes)
    refused(net_copy, tiny_net, match)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_recording_that_is_not_written_leaves_the_one_before(
    net_copy: Path, tiny_net: Net, activity: Activity, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    before = save_activity(net_copy, activity).read_bytes()
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises((UsageError, KeyboardInterrupt)):
        save_activity(net_copy, replace(activity, origin="another"))
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in (net_copy / "report").iterdir()} == {"activity.npz": before}


def test_two_writers_at_once_leave_one_of_the_recordings(
    net_copy: Path, tiny_net: Net, activity: Activity
) -> None:
    origins = [f"writer {number}" for number in range(8)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda origin: save_activity(net_copy, replace(activity, origin=origin)), origins))
    found = load_activity(net_copy, tiny_net.graph)
    assert found is not None
    assert found.origin in origins


def test_what_a_killed_writer_left_is_swept(net_copy: Path, activity: Activity) -> None:
    (net_copy / "report").mkdir()
    (net_copy / "report" / ".activity.npz.0123.partial").write_bytes(b"half")
    save_activity(net_copy, activity)
    assert [path.name for path in (net_copy / "report").iterdir()] == ["activity.npz"]


def totals(path: Path) -> dict[str, Any]:
    with np.load(path) as archive:
        return json.loads(archive["totals"].tobytes())


def as_bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def rewrite_totals(path: Path, change: dict[str, Any]) -> None:
    rewrite(path, totals=as_bytes(json.dumps({**totals(path), **change})))


def rewrite(path: Path, **changed: np.ndarray) -> None:
    """Write an npz file anew with some arrays exchanged."""
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, **changed})

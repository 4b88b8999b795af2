"""What the cores of a board counted, and which counts are flagged or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.errors import MeasurementError


def test_activity_of_all_cores_is_given_by_token(board: Any) -> None:
    per_token = board.profile().to_dict()["activity"]["per_token"]
    assert {name: each["value"] for name, each in per_token.items()} == pytest.approx(
        {"synaptic_operations": 400, "neuron_updates": 60, "messages_in": 6, "messages_out": 1.8}
    )
    assert per_token["synaptic_operations"]["unit"] == "synaptic operations"


def test_activity_is_given_by_core(board: Any) -> None:
    assert board.profile().to_dict()["activity"]["by_core"] == {
        "core": [0, 1, 5],
        "synaptic_operations": [1000, 0, 3000],
        "neuron_updates": [200, 400, 0],
        "messages_in": [10, 20, 30],
        "messages_out": [5, 6, 7],
    }


def test_a_profiler_that_tells_chips_apart_gives_them_too(board: Any) -> None:
    activity = board.Activity()
    vars(activity)["chip_idx"] = np.array([0, 0, 2])
    assert board.profile(activity=activity).to_dict()["activity"]["by_core"]["chip"] == [0, 0, 2]


def test_what_the_profiler_does_not_count_is_flagged_and_the_rest_is_given(board: Any) -> None:
    activity = board.Activity()
    del activity.axon_out
    document = board.profile(activity=activity).to_dict()
    assert document["flags"] == ["activity: Lava's profiler offers no axon_out, so these were not measured"]
    assert list(document["activity"]["per_token"]) == ["synaptic_operations", "neuron_updates", "messages_in"]
    assert "dynamic_energy_joules" in document


def test_several_chips_that_the_profiler_does_not_tell_apart_are_flagged(board: Any) -> None:
    document = board.profile(expected=board.expectation(chips=2)).to_dict()
    assert "no chip_idx, and the placement uses 2 chips" in document["flags"][0]
    assert document["activity"]["per_token"]["synaptic_operations"]["value"] == 400


def test_several_chips_that_the_profiler_tells_apart_are_not_flagged(board: Any) -> None:
    activity = board.Activity(core_idx=np.array([0, 1, 0]))
    vars(activity)["chip_idx"] = np.array([0, 0, 1])
    assert board.profile(activity=activity, expected=board.expectation(chips=2)).flags == ()


def test_a_core_that_occurs_twice_is_flagged(board: Any) -> None:
    (flag,) = board.profile(activity=board.Activity(core_idx=np.array([0, 1, 1]))).flags
    assert "more than once" in flag


def test_fewer_cores_than_the_placement_uses_are_flagged(board: Any) -> None:
    (flag,) = board.profile(expected=board.expectation(cores=4)).flags
    assert "recorded 3 of the 4 cores" in flag


@pytest.mark.parametrize(("expected", "flags"), [(400.0, 0), (403.0, 0), (500.0, 1), (0.0, 0)])
def test_synaptic_operations_that_are_not_those_expected_are_flagged_with_the_reasons_they_may_have(
    expected: float, flags: int, board: Any
) -> None:
    found = board.profile(expected=board.expectation(synaptic_operations=expected)).flags
    assert len(found) == flags
    assert all("0.8 times" in flag and "zero weights" in flag for flag in found)


@pytest.mark.parametrize(
    ("read", "same", "reason"),
    [("a", True, "leave out"), ("b", False, "other tokens"), ("", None, "may have been")],
)
def test_whether_the_activity_was_recorded_of_the_ids_read_is_said(
    read: str, same: bool | None, reason: str, board: Any
) -> None:
    expected = replace(board.expectation(synaptic_operations=500.0), ids_sha256="a")
    found = board.profile(expected=expected, run=replace(board.TEN_TOKENS, ids_sha256=read))
    assert found.to_dict()["activity"]["same_ids"] is same
    assert reason in found.flags[0]
    assert ("recorded" in found.flags[0]) == (same is not True)


def test_a_profiler_that_recorded_no_core_is_flagged(board: Any) -> None:
    document = board.profile(activity=board.Activity(*[np.zeros(0, dtype=int)] * 5)).to_dict()
    assert document["flags"] == ["activity: Lava's profiler recorded no core"]
    assert document["activity"]["per_token"] == {}


@pytest.mark.parametrize("name", ["core_idx", "syn_ops", "dendrite_updates", "spikes_in", "axon_out", "chip_idx"])
@pytest.mark.parametrize("wrong", [[1, -1, 0], [1, 0.5, 0], [1, np.nan, 0], [1, np.inf, 0], ["a", 1, 2], 7])
def test_activity_that_is_no_count_of_every_core_is_refused(name: str, wrong: Any, board: Any) -> None:
    activity = board.Activity()
    vars(activity)[name] = wrong
    with pytest.raises(MeasurementError, match=f"^{name}: expected"):
        board.profile(activity=activity)


def test_activity_of_different_numbers_of_cores_is_refused(board: Any) -> None:
    with pytest.raises(MeasurementError, match="core_idx 3, syn_ops 2"):
        board.profile(activity=board.Activity(syn_ops=np.array([1, 2])))

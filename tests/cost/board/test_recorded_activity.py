"""What is expected of a board: the recorded activity of the network, or the worst case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.activity.counts import synaptic_operations
from loihi_mmfree.activity.file import load_activity, save_activity
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.cost.expectation import expect
from loihi_mmfree.net.artifact import Net, load_net
from loihi_mmfree.report.document import build_report
from loihi_mmfree.sim.engine.specification import Engine


@pytest.fixture
def recorded(net_copy: Path) -> Net:
    """A network with the activity of its golden ids."""
    net = load_net(net_copy)
    recorder = ActivityRecorder(net.graph)
    Engine(net.graph, observer=recorder.observer).read(net.golden()["ids"].astype(np.int64))
    save_activity(net_copy, recorder.activity("golden ids"))
    return net


def test_without_recorded_activity_no_events_are_expected_and_the_worst_case_is_modelled(
    tiny_net: Net, board: Any
) -> None:
    document = board.profile(expected=expect(tiny_net)).to_dict()
    assert document["activity"]["expected_per_token"] == {}
    assert document["modelled"]["latency_seconds"]["inputs"]["activity"].startswith("not recorded: worst case")


def test_the_recorded_activity_is_put_beside_what_the_board_counted(recorded: Net, board: Any) -> None:
    moved = build_report(recorded).traffic
    given = board.profile(expected=expect(recorded)).to_dict()["activity"]["expected_per_token"]
    assert given["messages_out"]["value"] == pytest.approx(sum(core.sent for core in moved.cores))
    for each in given.values():
        assert each["source"] == "modelled"
        assert each["inputs"] == {
            "activity": "recorded: golden ids",
            "activity_tokens": len(recorded.golden()["ids"]),
            "placement": f"{recorded.placed.placement.cores_used} cores on 1 chips of loihi2",
        }


def test_what_is_modelled_of_a_run_is_a_session_of_the_report(recorded: Net) -> None:
    session = build_report(recorded).sessions[0]
    found = expect(recorded).run(session.prompt_tokens, session.new_tokens)
    assert found["latency_seconds"].value == pytest.approx(session.seconds)
    assert found["total_energy_joules"].value == pytest.approx(session.joules)


def test_the_synaptic_operations_expected_are_those_that_end_on_the_chip(recorded: Net) -> None:
    activity = load_activity(recorded.path, recorded.graph)
    assert activity is not None
    assert recorded.placed.placement.head == "host"
    operations = synaptic_operations(recorded.graph, activity.rates)
    on_chip = [each for name, each in operations.items() if not name.startswith(("norm.", "lm_head"))]
    assert len(on_chip) < len(operations)
    assert expect(recorded).per_token["synaptic_operations"] == pytest.approx(sum(on_chip))


def test_every_message_that_is_expected_in_was_expected_out_or_came_from_the_host(recorded: Net) -> None:
    per_token, moved = expect(recorded).per_token, build_report(recorded).traffic
    inside = per_token["message_copies_out"] - moved.host_received
    assert per_token["messages_in"] == pytest.approx(inside + moved.host_sent)

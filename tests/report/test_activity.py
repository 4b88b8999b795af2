"""Activity: messages that are not zero, as recorded and as counted from the integers themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loihi_mmfree.compiler.artifact import Net
from loihi_mmfree.compiler.nodes import NeuronGroup, SumSynapse, TernarySynapse
from loihi_mmfree.errors import ArtifactError
from loihi_mmfree.sim.activity import (
    Activity,
    ActivityRecorder,
    counted_activity,
    load_activity,
    neuron_updates,
    projection_zeros,
    save_activity,
    synaptic_operations,
    with_zeros,
    worst_case,
)
from loihi_mmfree.sim.engine import Engine
from loihi_mmfree.sim.fast import FastEngine


def record(net: Net, histograms: bool = False) -> Activity:
    """The engine's count over the golden ids."""
    engine, recorder = Engine(net.graph), ActivityRecorder(net.graph, histograms)
    engine.process(net.golden()["ids"].astype(np.int64), recorder)
    return recorder.activity(engine.counters, "golden ids")


def recount(net: Net) -> dict[str, int]:
    """Messages of every neuron group, counted from the integers stored at compile time."""
    golden = net.golden()
    groups = {node.name for node in net.graph if isinstance(node, NeuronGroup)}
    return {
        key: int((values != 0).sum())
        for key, values in golden.items()
        if key != "ids" and key.split(":")[0] in groups
    }


@pytest.mark.parametrize("fixture", ["tiny_net", "demo_net"])
def test_the_engines_counts_are_those_of_the_golden_messages(fixture: str, request: pytest.FixtureRequest) -> None:
    net = request.getfixturevalue(fixture)
    activity = record(net)
    assert dict(activity.messages) == recount(net)
    assert activity.tokens == len(net.golden()["ids"])


def test_lava_counts_what_the_engine_counts(tiny_net: Net) -> None:
    lava = pytest.importorskip("loihi_mmfree.sim.lava", reason="Lava is not installed")
    recorder = ActivityRecorder(tiny_net.graph)
    with lava.LavaNetwork(tiny_net.graph, taps=True) as network:
        network.process(tiny_net.golden()["ids"].astype(np.int64), recorder)
    assert dict(recorder.activity().messages) == recount(tiny_net)


@pytest.mark.parametrize("fixture", ["tiny_net", "demo_net"])
def test_the_compiled_kernels_count_what_the_golden_messages_hold(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    net = request.getfixturevalue(fixture)
    engine = FastEngine(net.graph, count_messages=True)
    ids = net.golden()["ids"].astype(np.int64)
    engine.process(ids)
    activity = counted_activity(net.graph, engine.messages, len(ids), engine.counters)
    engine.close()
    assert activity == replace(record(net), origin="")


def test_counts_of_several_calls_add_up(tiny_net: Net) -> None:
    engine, recorder = Engine(tiny_net.graph), ActivityRecorder(tiny_net.graph)
    for token in tiny_net.golden()["ids"]:
        engine.process(np.array([token], dtype=np.int64), recorder)
    assert dict(recorder.activity().messages) == recount(tiny_net)


def test_synaptic_operations_are_messages_times_fan_out(tiny_net: Net) -> None:
    golden, operations = tiny_net.golden(), synaptic_operations(tiny_net.graph, record(tiny_net))
    for node in tiny_net.graph:
        if isinstance(node, TernarySynapse | SumSynapse):
            rows = node.rows if isinstance(node, TernarySynapse) else 1
            sent = np.count_nonzero(golden[str(node.inputs[0])]) / len(golden["ids"])
            assert operations[node.name] == pytest.approx(sent * rows)


def test_every_neuron_of_every_group_is_updated_once_a_token(tiny_net: Net) -> None:
    updates = neuron_updates(tiny_net.graph)
    assert updates["layers.0.attn.mlgru"] == tiny_net.manifest["model"]["hidden_size"]


def test_histograms_hold_every_value_and_zeros_first(tiny_net: Net) -> None:
    golden, activity = tiny_net.golden(), record(tiny_net, histograms=True)
    for key, bins in activity.histograms.items():
        assert sum(bins) == golden[key].size
        assert bins[0] == np.count_nonzero(golden[key] == 0)
        assert bins[3] == np.count_nonzero((np.abs(golden[key]) >= 4) & (np.abs(golden[key]) < 8))


def test_zeros_of_projection_inputs_are_shares_of_the_golden_integers(tiny_net: Net) -> None:
    golden, zeros = tiny_net.golden(), projection_zeros(tiny_net.graph, record(tiny_net))
    inputs = [values for key, values in golden.items() if key.endswith(".scale:o_proj")]
    share = sum(np.count_nonzero(each == 0) for each in inputs) / sum(each.size for each in inputs)
    assert zeros["o_proj"] == pytest.approx(share)
    assert set(zeros) == {"i_proj", "f_proj", "g_proj", "o_proj", "gate_proj", "down_proj", "lm_head"}


def test_the_worst_case_sends_everything(tiny_net: Net) -> None:
    assert set(projection_zeros(tiny_net.graph, worst_case(tiny_net.graph)).values()) == {0.0}


def test_given_shares_of_zeros_come_back(tiny_net: Net) -> None:
    zeros = projection_zeros(tiny_net.graph, with_zeros(tiny_net.graph, {"o_proj": 0.373}))
    assert zeros["o_proj"] == pytest.approx(0.373)
    assert zeros["i_proj"] == 0


def test_a_saved_activity_is_read_back(net_copy: Path, tiny_net: Net) -> None:
    activity = record(tiny_net, histograms=True)
    save_activity(net_copy, activity)
    assert load_activity(net_copy, tiny_net.graph) == activity


def test_no_recorded_activity_is_none(net_copy: Path, tiny_net: Net) -> None:
    assert load_activity(net_copy, tiny_net.graph) is None


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        json.dumps({"schema_version": 1, "tokens": 0, "messages": {}}),
        json.dumps({"schema_version": 1, "tokens": 1, "messages": {"a:b": -1}}),
        json.dumps({"schema_version": 1, "tokens": 1, "messages": {"another:out": 3}}),
    ],
)
def test_a_damaged_or_foreign_activity_is_refused(net_copy: Path, tiny_net: Net, content: str) -> None:
    save_activity(net_copy, worst_case(tiny_net.graph)).write_text(content)
    with pytest.raises(ArtifactError, match="run --activity"):
        load_activity(net_copy, tiny_net.graph)


def test_more_messages_than_neurons_are_refused(net_copy: Path, tiny_net: Net) -> None:
    worst = worst_case(tiny_net.graph)
    more = {key: count + 1 for key, count in worst.messages.items()}
    save_activity(net_copy, Activity(worst.tokens, more))
    with pytest.raises(ArtifactError, match="another network"):
        load_activity(net_copy, tiny_net.graph)

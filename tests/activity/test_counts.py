"""Activity: messages that are not zero, by token, as recorded and as counted from the integers themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from loihi_mmfree.activity.counts import (
    Activity,
    ActivityRecorder,
    neuron_updates,
    projection_zeros,
    synaptic_operations,
    with_zeros,
    worst_case,
)
from loihi_mmfree.activity.incidents import Incidents
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.synapses import SumSynapse, TernarySynapse
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.engine.compiled import FastEngine
from loihi_mmfree.sim.engine.specification import Engine
from loihi_mmfree.sim.session.recording import Recording


def numpy_engine(net: Net) -> Engine:
    return Engine(net.graph, strict=True)


def compiled_engine(net: Net) -> FastEngine:
    return FastEngine(net.graph, strict=True, record=True)


def record(net: Net, open_engine: Callable[[Net], Engine | FastEngine] = numpy_engine) -> Activity:
    """An engine's count over the golden ids: all but five of them at once, the others one by one."""
    recording = Recording(net, open_engine(net), "golden ids")
    ids = net.golden()["ids"].astype(np.int64)
    for some in (ids[:-5], *ids[-5:, None]):
        recording.process(some)
    activity = recording.activity
    recording.close()
    return activity


def with_histograms(net: Net) -> Activity:
    engine, recorder = numpy_engine(net), ActivityRecorder(net.graph, histograms=True)
    engine.process(net.golden()["ids"].astype(np.int64), recorder)
    return recorder.activity()


def recount(net: Net) -> dict[str, list[int]]:
    """Messages of every token at every neuron group, counted from the integers stored at compile time."""
    golden = net.golden()
    groups = {node.name for node in net.graph if isinstance(node, NeuronGroup)}
    return {
        key: [sum(value != 0 for value in row) for row in values.tolist()]
        for key, values in golden.items()
        if key != "ids" and key.split(":")[0] in groups
    }


def by_token(activity: Activity) -> dict[str, list[int]]:
    return {key: counts.tolist() for key, counts in activity.columns.items()}


@pytest.mark.parametrize("fixture", ["tiny_net", "demo_net"])
@pytest.mark.parametrize("open_engine", [numpy_engine, compiled_engine])
def test_every_tokens_counts_are_those_of_the_golden_messages(
    fixture: str, open_engine: Callable[[Net], Engine | FastEngine], request: pytest.FixtureRequest
) -> None:
    net = request.getfixturevalue(fixture)
    activity, expected = record(net, open_engine), recount(net)
    assert by_token(activity) == expected
    assert activity.messages == {key: sum(counts) for key, counts in expected.items()}
    assert activity.tokens == len(net.golden()["ids"])


@pytest.mark.parametrize("length", [3, 64, 65, 150])
def test_prompts_of_any_length_are_counted_token_by_token(tiny_net: Net, length: int) -> None:
    ids = np.random.default_rng(length).integers(0, 512, length)
    expected: dict[str, list[int]] = {}

    def count(source: Source, values: np.ndarray) -> None:
        expected[str(source)] = [int(np.count_nonzero(row)) for row in values]

    Engine(tiny_net.graph).process(ids, count)
    recording = Recording(tiny_net, compiled_engine(tiny_net), "a prompt")
    recording.process(ids)
    found = by_token(recording.activity)
    recording.close()
    assert found == {key: expected[key] for key in found}


@pytest.mark.parametrize("fixture", ["tiny_net", "demo_net"])
def test_lava_counts_what_the_engine_counts(fixture: str, request: pytest.FixtureRequest) -> None:
    lava = pytest.importorskip("loihi_mmfree.sim.lava.network", reason="Lava is not installed")
    net = request.getfixturevalue(fixture)
    recording = Recording(net, lava.LavaNetwork(net.graph, taps=True), "Lava")
    ids = net.golden()["ids"].astype(np.int64)
    recording.process(ids[:-2])
    recording.process(ids[-2:])
    activity = recording.activity
    recording.close()
    assert by_token(activity) == recount(net)
    assert replace(activity, origin="golden ids") == record(net)


def test_an_activity_says_which_ids_were_read(tiny_net: Net) -> None:
    ids = tiny_net.golden()["ids"].astype(np.int64)
    assert record(tiny_net).ids_sha256 == hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()


def test_a_recorder_keeps_nothing_of_a_token_without_incidents(tiny_net: Net) -> None:
    recorder = ActivityRecorder(tiny_net.graph)
    for _ in range(3):
        recorder.tally("embeddings", np.zeros((2, 2), dtype=np.int64))
    before = len(recorder._incidents)
    recorder.tally("embeddings", np.array([[0, 0], [5, 0]]))
    assert (before, len(recorder._incidents)) == (1, 2)
    assert recorder.activity().incidents.rows.tolist() == [[7, 0, 5, 0]]


def tallied(graph: Graph, ids: np.ndarray) -> dict[str, list[list[int]]]:
    """Saturations and overflows of every token at the nodes that have any, as the specification counts them."""
    found: dict[str, list[list[int]]] = {}

    def note(node: str, counts: np.ndarray) -> None:
        if counts.any():
            found[node] = counts.tolist()

    Engine(graph, strict=True).process(ids, tally=note)
    return found


def by_node(incidents: Incidents, tokens: int) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = {}
    for token, node, *counts in incidents.rows.tolist():
        found.setdefault(incidents.nodes[node], [[0, 0] for _ in range(tokens)])[token] = counts
    return found


@pytest.mark.parametrize("open_engine", [numpy_engine, compiled_engine])
def test_saturations_are_those_of_the_tokens_and_nodes_that_clamp(
    demo_net: Net, open_engine: Callable[[Net], Engine | FastEngine]
) -> None:
    ids = np.random.default_rng(0).integers(0, 2048, 75)
    recording = Recording(demo_net, open_engine(demo_net), "random ids")
    for some in (ids[:70], ids[70:71], ids[71:]):
        recording.process(some)
    activity = recording.activity
    recording.close()
    expected = tallied(demo_net.graph, ids)
    assert by_node(activity.incidents, 75) == expected
    assert activity.saturations == {node: sum(each for each, _ in counts) for node, counts in expected.items()}
    assert sum(activity.saturations.values()) == recording.counters.saturations > 0
    assert not activity.overflows


def test_synaptic_operations_of_every_token_are_its_messages_times_fan_out(tiny_net: Net) -> None:
    golden, activity = tiny_net.golden(), record(tiny_net)
    of_tokens = synaptic_operations(tiny_net.graph, activity.columns)
    in_the_mean = synaptic_operations(tiny_net.graph, activity.rates)
    for node in tiny_net.graph:
        if isinstance(node, TernarySynapse | SumSynapse):
            rows = node.rows if isinstance(node, TernarySynapse) else 1
            sent = np.count_nonzero(golden[str(node.inputs[0])], axis=1)
            np.testing.assert_array_equal(of_tokens[node.name], sent * rows)
            assert in_the_mean[node.name] == pytest.approx(sent.mean() * rows)


def test_every_neuron_of_every_group_is_updated_once_a_token(tiny_net: Net) -> None:
    updates = neuron_updates(tiny_net.graph)
    assert updates["layers.0.attn.mlgru"] == tiny_net.manifest["model"]["hidden_size"]


def test_histograms_hold_every_value_by_the_bits_it_needs(tiny_net: Net) -> None:
    golden, activity = tiny_net.golden(), with_histograms(tiny_net)
    for key, bins in activity.histograms.items():
        assert sum(bins) == golden[key].size
        assert bins[0] == np.count_nonzero((golden[key] == 0) | (golden[key] == -1))
        assert bins[3] == sum(np.count_nonzero(golden[key] == value) for value in (4, 5, 6, 7, -5, -6, -7, -8))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_bins_from_d_on_are_what_remains_of_values_with_d_bits_less(tiny_net: Net, bits: int) -> None:
    golden, activity = tiny_net.golden(), with_histograms(tiny_net)
    for key, bins in activity.histograms.items():
        assert sum(bins[bits:]) == np.count_nonzero((golden[key] + (1 << (bits - 1))) >> bits)


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

"""Activity: messages that are not zero, by token, as recorded and as counted from the integers themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from loihi_mmfree.activity.counts import (
    Activity,
    group_ports,
    neuron_updates,
    projection_zeros,
    synaptic_operations,
    with_zeros,
    worst_case,
)
from loihi_mmfree.activity.incidents import NO_ROWS, Incidents
from loihi_mmfree.activity.observer import Observer
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.errors import UsageError
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.synapses import SumSynapse, TernarySynapse
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.backend import Backend
from loihi_mmfree.sim.engine.compiled import FastEngine
from loihi_mmfree.sim.engine.specification import Engine
from loihi_mmfree.sim.session.opening import Choice, open_backend

Open = Callable[[Net, Observer], Backend]


def numpy_engine(net: Net, observer: Observer) -> Backend:
    return Engine(net.graph, strict=True, observer=observer)


def compiled_engine(net: Net, observer: Observer) -> Backend:
    return FastEngine(net.graph, strict=True, observer=observer)


def lava(net: Net, observer: Observer) -> Backend:
    network = pytest.importorskip("loihi_mmfree.sim.lava.network", reason="Lava is not installed")
    backend: Backend = network.LavaNetwork(net.graph, observer=observer)
    return backend


def count(net: Net, opens: Open, parts: Sequence[np.ndarray], histograms: bool = False) -> Activity:
    """What a backend sends that reads these parts of a sequence."""
    recorder = ActivityRecorder(net.graph, histograms)
    backend = opens(net, recorder.observer)
    for part in parts:
        backend.read(part)
    counters = backend.counters
    backend.close()
    activity = recorder.activity("these ids", np.concatenate(parts))
    assert sum(activity.saturations.values()) == counters.saturations
    return activity


def record(net: Net, opens: Open = numpy_engine) -> Activity:
    """A count over the golden ids: all but five of them at once, the others one by one."""
    ids = net.golden()["ids"].astype(np.int64)
    return count(net, opens, [ids[:-5], *ids[-5:, None]])


def with_histograms(net: Net, opens: Open = numpy_engine) -> Activity:
    return count(net, opens, [net.golden()["ids"].astype(np.int64)], histograms=True)


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
@pytest.mark.parametrize("opens", [numpy_engine, compiled_engine, lava])
def test_every_tokens_counts_are_those_of_the_golden_messages(
    fixture: str, opens: Open, request: pytest.FixtureRequest
) -> None:
    net = request.getfixturevalue(fixture)
    activity, expected = record(net, opens), recount(net)
    assert by_token(activity) == expected
    assert activity.messages == {key: sum(counts) for key, counts in expected.items()}
    assert activity.tokens == len(net.golden()["ids"])


@pytest.mark.parametrize("length", [3, 64, 65, 150])
def test_prompts_of_any_length_are_counted_token_by_token(tiny_net: Net, length: int) -> None:
    ids = np.random.default_rng(length).integers(0, 512, length)
    expected: dict[str, list[int]] = {}

    def note(source: Source, values: np.ndarray) -> None:
        expected.setdefault(str(source), []).extend(int(np.count_nonzero(row)) for row in values)

    Engine(tiny_net.graph, observer=Observer(values=note)).read(ids)
    for opens in (numpy_engine, compiled_engine):
        found = by_token(count(tiny_net, opens, [ids]))
        assert found == {key: expected[key] for key in found}


@pytest.mark.parametrize("opens", [compiled_engine, lava])
def test_every_backend_records_the_same_activity(demo_net: Net, opens: Open) -> None:
    ids = np.random.default_rng(0).integers(0, 2048, 12)
    parts = [ids[:9], ids[9:10], ids[10:]]
    assert count(demo_net, opens, parts) == count(demo_net, numpy_engine, parts)


def test_lava_sorts_the_values_that_the_engine_sorts(tiny_net: Net) -> None:
    assert with_histograms(tiny_net, lava).histograms == with_histograms(tiny_net).histograms


def test_an_activity_says_which_ids_were_read(tiny_net: Net) -> None:
    ids = tiny_net.golden()["ids"].astype(np.int64)
    assert record(tiny_net).ids_sha256 == hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()


def test_incidents_are_numbered_over_all_that_was_read(tiny_net: Net) -> None:
    recorder = ActivityRecorder(tiny_net.graph)
    sent = np.zeros((2, len(group_ports(tiny_net.graph))), dtype=np.int32)
    assert recorder.observer.counts is not None
    for _ in range(3):
        recorder.observer.counts(sent, NO_ROWS)
    recorder.observer.counts(sent, np.array([[1, 0, 5, 0]], dtype=np.int32))
    assert recorder.activity().incidents.rows.tolist() == [[7, 0, 5, 0]]


def test_an_activity_stays_as_it_was_while_counting_goes_on(tiny_net: Net) -> None:
    recorder = ActivityRecorder(tiny_net.graph)
    engine = FastEngine(tiny_net.graph, observer=recorder.observer)
    engine.read(np.array([1, 2, 3]))
    first = recorder.activity()
    assert first.by_token is not None
    before = first.by_token.copy()
    engine.read(np.array([4]))
    engine.close()
    np.testing.assert_array_equal(first.by_token, before)
    assert (first.tokens, recorder.activity().tokens) == (3, 4)


def test_a_backend_names_what_it_does_not_show(tiny_net: Net) -> None:
    with pytest.raises(
        UsageError, match="the compiled engine does not show the values of messages; use the engine"
    ):
        compiled_engine(tiny_net, Observer(values=lambda source, values: None))
    with pytest.raises(UsageError, match="a chip does not show the messages of every token"):
        open_backend(tiny_net, Choice("loihi2"), ActivityRecorder(tiny_net.graph).observer)


def test_lava_in_blocks_names_what_it_does_not_show(tiny_net: Net) -> None:
    pytest.importorskip("lava.magma", reason="Lava is not installed")
    with pytest.raises(UsageError, match="sim at block granularity does not show the messages of every token"):
        open_backend(tiny_net, Choice("sim", "block"), ActivityRecorder(tiny_net.graph).observer)


def tallied(graph: Graph, ids: np.ndarray) -> dict[str, list[list[int]]]:
    """Saturations and overflows of every token at the nodes that have any, as the specification counts them."""
    found: dict[str, list[list[int]]] = {}

    def note(node: str, counts: np.ndarray) -> None:
        found.setdefault(node, []).extend(counts.tolist())

    Engine(graph, strict=True, observer=Observer(incidents=note)).read(ids)
    return {node: counts for node, counts in found.items() if np.any(counts)}


def by_node(incidents: Incidents, tokens: int) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = {}
    for token, node, *counts in incidents.rows.tolist():
        found.setdefault(incidents.nodes[node], [[0, 0] for _ in range(tokens)])[token] = counts
    return found


@pytest.mark.parametrize("opens", [numpy_engine, compiled_engine])
def test_saturations_are_those_of_the_tokens_and_nodes_that_clamp(demo_net: Net, opens: Open) -> None:
    ids = np.random.default_rng(0).integers(0, 2048, 75)
    activity = count(demo_net, opens, [ids[:70], ids[70:71], ids[71:]])
    expected = tallied(demo_net.graph, ids)
    assert by_node(activity.incidents, 75) == expected
    assert activity.saturations == {node: sum(each for each, _ in counts) for node, counts in expected.items()}
    assert sum(activity.saturations.values()) > 0
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

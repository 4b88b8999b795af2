"""The report as a document: what it holds, and that no number comes without its provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.compiler.artifact import Net, load_net
from loihi_mmfree.compiler.nodes import NeuronGroup
from loihi_mmfree.report.document import PHASES, Report, build_report
from loihi_mmfree.report.published import load_published
from loihi_mmfree.report.quantity import SOURCES, Quantity
from loihi_mmfree.report.tables import notes, tables
from loihi_mmfree.sim.activity import ActivityRecorder, synaptic_operations
from loihi_mmfree.sim.activity_file import save_activity
from loihi_mmfree.sim.engine import Engine


@pytest.fixture(scope="module")
def unrecorded(tiny_net: Net) -> Report:
    """Of mmf-tiny, which nobody has run with --activity."""
    return build_report(tiny_net, with_sweep=True)


@pytest.fixture
def recorded(net_copy: Path) -> Report:
    """Of a copy with the activity of the golden ids."""
    net = load_net(net_copy)
    engine, recorder = Engine(net.graph), ActivityRecorder(net.graph)
    engine.process(net.golden()["ids"].astype(np.int64), recorder, recorder.tally)
    save_activity(net_copy, recorder.activity("golden ids"))
    return build_report(net)


def quantities(data: Any) -> Iterator[dict[str, Any]]:
    """Every object with a `value` anywhere in a document."""
    if isinstance(data, dict):
        if {"value", "unit", "source"} <= data.keys() and "confidence" not in data:
            yield data
        for each in data.values():
            yield from quantities(each)
    elif isinstance(data, list):
        for each in data:
            yield from quantities(each)


def spread_row(report: Report, name: str) -> tuple[str, ...]:
    """The row of the terminal's table over tokens."""
    (table,) = (each for each in tables(report) if each.title.startswith("Activity of a token"))
    return next(row for row in table.rows if row[0] == name)


def check_schema(document: dict[str, Any]) -> None:
    """The schema of docs/reports.md."""
    assert document["schema_version"] == 1
    assert document["measurement_method"] == "modelled"
    for name in ("chips_used", "cores_used", "steps_per_token", "weight_bits", "activation_bits"):
        assert isinstance(document[name], int)
    for phase in PHASES:
        for name, unit in (("tokens_per_s", "tokens/s"), ("millijoules_per_token", "mJ"), ("watts", "W")):
            found = document[phase][name]
            assert set(found) == {"value", "unit", "source", "inputs"}
            assert found["unit"] == unit
            assert found["source"] == "modelled"
            assert found["value"] > 0
            low, high = found["inputs"]["range"]
            assert low <= found["value"] <= high
    for each in document["sessions"]:
        assert {"prompt_tokens", "new_tokens", "latency_seconds", "total_energy_joules"} <= each.keys()
        assert {"energy_per_token_joules", "energy_per_output_token_joules"} <= each.keys()
    assert document["static_power_baseline_watts"]["unit"] == "W"
    assert {row["source"] for row in document["sensitivity"]} == {"modelled"}
    assert document["sweep"]["source"] == "modelled"


def test_the_document_keeps_its_schema(unrecorded: Report, recorded: Report) -> None:
    for report in (unrecorded, recorded):
        check_schema(json.loads(json.dumps(report.to_dict(), allow_nan=False)))


def test_every_quantity_has_a_source_and_what_it_was_made_from(unrecorded: Report) -> None:
    found = list(quantities(unrecorded.to_dict()))
    assert len(found) > 100
    for each in found:
        assert each["source"] in SOURCES
        assert each["inputs"]


def test_published_numbers_carry_their_citation(unrecorded: Report) -> None:
    published = [each for each in quantities(unrecorded.to_dict()) if each["source"] == "published"]
    held_against = sum(len(each.comparisons) for each in unrecorded.validations)
    assert len(published) == 4 * 4 * 6 + len(load_published().zeros) + held_against
    assert all("citation" in each["inputs"] for each in published)


def test_nothing_on_loihi_2_claims_to_be_measured(recorded: Report) -> None:
    document = recorded.to_dict()
    activity = document.pop("activity")
    zeros = activity["zeros"]
    assert not [each for each in quantities(document) if each["source"] == "measured"]
    assert {each["this_network"]["source"] for each in zeros.values()} == {"measured"}
    assert {each["source"] for each in quantities(activity["per_token"])} == {"measured"}


def test_the_spread_over_tokens_is_that_of_the_golden_messages(recorded: Report, tiny_net: Net) -> None:
    groups = {node.name for node in tiny_net.graph if isinstance(node, NeuronGroup)}
    taps = {key: values for key, values in tiny_net.golden().items() if key.split(":")[0] in groups}
    sent = sum(np.count_nonzero(values, axis=1) for values in taps.values())
    activity = recorded.to_dict()["activity"]
    found = {name: each["value"] for name, each in activity["per_token"]["messages"].items()}
    assert found == {"least": min(sent), "median": np.median(sent), "greatest": max(sent)}
    assert activity["by_token"] == "report/activity.npz"
    assert spread_row(recorded, "messages")[3:] == (f"{max(sent):,}", "measured")


def test_saturations_of_tokens_are_those_that_the_engine_counts(recorded: Report, tiny_net: Net) -> None:
    counted = np.zeros(len(tiny_net.golden()["ids"]), dtype=np.int64)

    def note(_: str, counts: np.ndarray) -> None:
        counted[:] += counts[:, 0]

    Engine(tiny_net.graph).process(tiny_net.golden()["ids"].astype(np.int64), tally=note)
    np.testing.assert_array_equal(recorded.per_token["saturations"], counted)
    assert recorded.to_dict()["activity"]["saturations"] == counted.sum()


def test_operations_of_tokens_are_in_the_mean_those_of_the_workload(recorded: Report, tiny_net: Net) -> None:
    operations = synaptic_operations(tiny_net.graph, recorded.activity.columns)
    np.testing.assert_array_equal(sum(operations.values()), recorded.per_token["synaptic_operations"])
    # Final norm and head are on the host, which the workload leaves out.
    on_chip = [values.mean() for name, values in operations.items() if name.startswith("layers.")]
    assert sum(on_chip) == pytest.approx(recorded.workload.events.synaptic_operations)


def test_without_recorded_activity_there_is_no_spread(unrecorded: Report) -> None:
    activity = unrecorded.to_dict()["activity"]
    assert activity["per_token"] == {}
    assert activity["by_token"] is None


def test_without_recorded_activity_the_report_says_so_and_takes_the_worst_case(unrecorded: Report) -> None:
    assert unrecorded.to_dict()["activity"]["source"] == "worst case"
    assert set(unrecorded.zeros.values()) == {0.0}
    assert any("No activity is recorded" in note for note in notes(unrecorded))


def test_recorded_activity_is_named_and_makes_the_net_cheaper(unrecorded: Report, recorded: Report) -> None:
    assert recorded.inputs["activity"] == "recorded: golden ids"
    assert not any("No activity is recorded" in note for note in notes(recorded))
    assert recorded.prediction.generate.dynamic_joules < unrecorded.prediction.generate.dynamic_joules


def test_zeros_stand_beside_the_published_ones(recorded: Report) -> None:
    zeros = recorded.to_dict()["activity"]["zeros"]
    assert zeros["o_proj"]["published_370m"]["value"] == 0.373
    assert zeros["down_proj"]["published_370m"]["value"] == 0.301
    assert zeros["o_proj"]["this_network"]["value"] == recorded.zeros["o_proj"]


def test_the_comparison_holds_every_published_row_and_this_network_at_every_length(unrecorded: Report) -> None:
    rows = unrecorded.comparison
    assert [row.tokens for row in rows if row.model == "this network"] == [500, 1000, 4000, 8000]
    qwen = [row for row in rows if row.model == "Qwen2 500M" and row.tokens == 4000]
    assert [row.generate_tokens_per_s.value for row in qwen] == [14.1]
    assert [row.prefill_millijoules.value for row in qwen] == [6.7]
    assert len(rows) == 4 * 7


def test_the_residual_of_the_model_is_part_of_the_report(unrecorded: Report) -> None:
    residual = unrecorded.to_dict()["model"]["residual_generate_tokens_per_s"]
    predicted, published = (residual["inputs"][key] for key in ("predicted", "published"))
    assert residual["value"] == pytest.approx(predicted / published - 1)


def test_networks_that_others_measured_are_part_of_the_report_with_residual_and_source(unrecorded: Report) -> None:
    rows = unrecorded.to_dict()["model"]["validation"]
    assert {"PilotNet LIF, one chip", "YOLO-KP SDNN, nine chips"} == {row["network"] for row in rows}
    for row in rows:
        assert "lava-dl" in row["measured"]["inputs"]["citation"]
        assert row["residual"]["value"] == pytest.approx(row["modelled"]["value"] / row["measured"]["value"] - 1)


def test_the_range_of_an_energy_holds_what_the_energies_of_pilotnet_give(unrecorded: Report) -> None:
    document = unrecorded.to_dict()
    for phase in PHASES:
        low, high = document[phase]["millijoules_per_token"]["inputs"]["range"]
        other = document[phase]["other_millijoules_per_token"]
        assert low <= other["value"] <= high
        assert other["value"] != document[phase]["millijoules_per_token"]["value"]
        assert "PilotNet" in other["inputs"]["energies"]


def test_it_says_that_the_division_of_energy_is_not_supported(unrecorded: Report) -> None:
    assert any("divides into static and dynamic" in each for each in unrecorded.to_dict()["model"]["not_modelled"])


def test_every_table_has_as_many_cells_as_columns_and_says_modelled_or_published(unrecorded: Report) -> None:
    found = list(tables(unrecorded))
    assert len(found) == 7
    for table in found:
        assert all(len(row) == len(table.columns) for row in table.rows)
        text = " ".join((table.title, *table.columns, *(cell for row in table.rows for cell in row)))
        assert "modelled" in text or "published" in text


def test_a_quantity_without_provenance_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="inputs"):
        Quantity(1.0, "J", "modelled")
    with pytest.raises(ValueError, match="known are measured"):
        Quantity(1.0, "J", "guessed", {"by": "me"})


def test_the_published_sequences_are_as_long_as_their_list_of_tokens() -> None:
    published = load_published()
    for system in published.systems:
        for values in (
            system.generate_tokens_per_s,
            system.generate_millijoules,
            system.prefill_tokens_per_s,
            system.prefill_millijoules,
        ):
            assert len(values) == len(published.tokens)

"""The report as a document: what it holds, and that no number comes without its provenance."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.activity.counts import synaptic_operations
from loihi_mmfree.activity.file import HISTOGRAM_RECORDING, RECORDING, save_activity
from loihi_mmfree.activity.incidents import Incidents
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.cost.published import load_published
from loihi_mmfree.cost.quantity import SOURCES, Quantity, format_number
from loihi_mmfree.ir.executor import counting_nodes
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.net.artifact import Net, load_net
from loihi_mmfree.options import on_command_line
from loihi_mmfree.report.document import PHASES, Report, build_report
from loihi_mmfree.report.tables import notes, tables
from loihi_mmfree.sim.engine.specification import Engine

DOCS = Path(__file__).parents[2] / "docs" / "reports.md"
INCIDENTS = {
    (0, "layers.1.attn.mlgru"): (3, 0),
    (2, "layers.1.attn.mlgru"): (4, 5),
    (2, "norm.scale"): (7, 0),
    (5, "layers.3.attn.mlgru"): (2, 0),
}
"""Saturations and overflows by token and node; `norm.scale` is on the host."""


@pytest.fixture(scope="module")
def unrecorded(tiny_net: Net) -> Report:
    """Of mmf-tiny, which nobody has run with --activity."""
    return build_report(tiny_net, with_sweep=True)


@pytest.fixture
def recorded(net_copy: Path) -> Report:
    """Of a copy with the activity of the golden ids, and with incidents put in."""
    net = load_net(net_copy)
    recorder = ActivityRecorder(net.graph)
    Engine(net.graph, observer=recorder.observer).read(net.golden()["ids"].astype(np.int64))
    nodes = counting_nodes(net.graph)
    rows = sorted([token, nodes.index(node), *counts] for (token, node), counts in INCIDENTS.items())
    incidents = Incidents(nodes, np.array(rows, dtype=np.int32))
    save_activity(net_copy, replace(recorder.activity("golden ids"), incidents=incidents))
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
    for row in (*document["sensitivity"], *document["sweep"]["rows"]):
        assert row["source"] == "modelled"
        assert row["inputs"]["parameters"] == "loihi2_model.toml"
        assert row["result_units"]["tokens_per_s"] == "tokens/s"
        assert "mJ" in row["result_units"].values()


def documented() -> dict[str, set[str]]:
    """The names in the table of the section "JSON": all those of a row, by each of its fields."""
    section = DOCS.read_text().split("\n## JSON\n")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    return {
        name: set(re.findall(r"`([^`]+)`", content))
        for _, fields, content, _ in rows
        for name in re.findall(r"`([^`]+)`", fields)
    }


NAMES_OF_THINGS = {"zeros", "time_shares", "parameters"}
"""Fields whose keys name kinds of projections, stages of a core, and parameters of the model."""


def keys(data: Any) -> Iterator[str]:
    """Every key below a field, without what a quantity consists of."""
    if isinstance(data, list):
        for each in data:
            yield from keys(each)
    elif isinstance(data, dict) and set(data) != {"value", "unit", "source", "inputs"}:
        for key, value in data.items():
            yield key
            if key != "inputs":
                yield from keys(list(value.values()) if key in NAMES_OF_THINGS else value)


def test_every_field_of_the_document_is_documented(unrecorded: Report, recorded: Report) -> None:
    table = documented()
    board = replace(unrecorded, workload=replace(unrecorded.workload, board_chips=8))
    board = replace(board, sessions=tuple(replace(each, board_static_joules=1.0) for each in board.sessions))
    for report in (unrecorded, recorded, board):
        document = json.loads(json.dumps(report.to_dict()))
        assert set(document) == set(table)
        for field, value in document.items():
            phases = set() if field in PHASES else set(PHASES)
            missing = set(keys(value)) - table[field] - phases
            assert missing == set(), field


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
    held_against = sum(len(each.quantities) for each in unrecorded.validations)
    assert len(published) == 4 * 4 * 6 + 2 * 5 + len(load_published().zeros) + held_against
    assert all("citation" in each["inputs"] for each in published)


def test_nothing_on_loihi_2_claims_to_be_measured(recorded: Report) -> None:
    document = recorded.to_dict()
    activity = document.pop("activity")
    zeros = activity["zeros"]
    assert not [each for each in quantities(document) if each["source"] == "measured"]
    assert {each["this_network"]["source"] for each in zeros.values()} == {"measured"}
    assert {each["source"] for each in quantities(activity["per_token"])} == {"measured"}


def test_the_spread_over_tokens_is_that_of_the_golden_messages(recorded: Report, tiny_net: Net) -> None:
    # Final norm and head are on the host.
    groups = {
        node.name
        for node in tiny_net.graph
        if isinstance(node, NeuronGroup) and node.name.startswith(("embeddings", "layers."))
    }
    taps = {key: values for key, values in tiny_net.golden().items() if key.split(":")[0] in groups}
    sent = sum(np.count_nonzero(values, axis=1) for values in taps.values())
    activity = recorded.to_dict()["activity"]
    found = {name: each["value"] for name, each in activity["per_token"]["messages"].items()}
    assert found == {"least": min(sent), "median": np.median(sent), "greatest": max(sent)}
    assert activity["by_token"] == "report/activity.npz"
    assert spread_row(recorded, "messages")[3:] == (f"{max(sent):,}", "measured")


def test_saturations_of_tokens_are_those_on_the_chip_and_totals_those_of_the_whole_network(
    recorded: Report, tiny_net: Net
) -> None:
    assert recorded.per_token["saturations"][:6].tolist() == [3, 0, 4, 0, 0, 2]
    assert recorded.per_token["saturations"].shape == tiny_net.golden()["ids"].shape
    assert recorded.per_token["saturations"].sum() == 3 + 4 + 2
    activity = recorded.to_dict()["activity"]
    assert activity["saturations"] == 3 + 4 + 7 + 2
    assert activity["overflows"] == 5
    assert activity["per_token"]["saturations"]["greatest"]["value"] == 4


def test_it_is_said_that_the_activity_of_tokens_is_that_of_the_chip(recorded: Report) -> None:
    assert any(each.title.startswith("Activity of a token, counted in simulation") for each in tables(recorded))
    messages = recorded.to_dict()["activity"]["per_token"]["messages"]["median"]
    assert messages["inputs"]["counted"] == "in simulation, without what the host computes"


def test_operations_of_tokens_are_those_of_the_synapses_on_the_chip(recorded: Report, tiny_net: Net) -> None:
    operations = synaptic_operations(tiny_net.graph, recorded.activity.columns)
    # Final norm and head are on the host.
    on_chip = sum(values for name, values in operations.items() if name.startswith("layers."))
    np.testing.assert_allclose(recorded.per_token["synaptic_operations"], on_chip, rtol=1e-12)


def test_a_sweep_without_histograms_says_what_it_leaves_out_and_what_adds_it(
    unrecorded: Report, tiny_net: Net
) -> None:
    (note,) = unrecorded.sweep_left_out
    assert "narrower activations" in note
    assert HISTOGRAM_RECORDING in note
    assert note in notes(unrecorded)
    assert unrecorded.to_dict()["sweep"]["left_out"] == [note]
    shown = on_command_line(note)
    assert (
        '`loihi-mmfree run NET --prompt "..." --backend engine --activity --histograms` records that too' in shown
    )


def test_nothing_is_left_out_of_a_sweep_with_histograms_and_of_no_sweep(unrecorded: Report) -> None:
    counted = replace(unrecorded.activity, histograms={"embeddings:x": (1,) * 25})
    assert not replace(unrecorded, activity=counted).sweep_left_out
    assert not replace(unrecorded, sweep=()).sweep_left_out


def test_without_recorded_activity_there_is_no_spread(unrecorded: Report) -> None:
    activity = unrecorded.to_dict()["activity"]
    assert activity["per_token"] == {}
    assert activity["by_token"] is None


def test_without_recorded_activity_the_report_says_so_and_takes_the_worst_case(unrecorded: Report) -> None:
    assert unrecorded.to_dict()["activity"]["source"] == "worst case"
    assert set(unrecorded.zeros.values()) == {0.0}
    (note,) = (each for each in notes(unrecorded) if "No activity is recorded" in each)
    assert f"{RECORDING} records it" in note


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
    assert len(rows) == 4 * 7 + 5


def test_estimates_of_others_are_told_from_their_measurements(unrecorded: Report) -> None:
    (table,) = (each for each in tables(unrecorded) if each.title.startswith("Beside published"))
    origins = {row[:2]: row[-1] for row in table.rows}
    assert origins[("Loihi 2, 1 chip", "this network")] == "modelled"
    assert origins[("H100", "MatMul-free 370M")] == "published measurement"
    assert origins[("Loihi 2, 24 chips", "MatMul-free 370M")] == "published estimate"
    assert origins[("Loihi 2, 24 chips", "MatMul-free 370M, trained to be sparse")] == "published estimate"
    assert origins[("FPGA Alveo U250, ternip, 48 lanes together", "MatMul-free 370M")] == "published figure"


def test_accelerators_are_compared_without_length_and_prefill(unrecorded: Report) -> None:
    (table,) = (each for each in tables(unrecorded) if each.title.startswith("Beside published"))
    (row,) = (row for row in table.rows if row[1] == "MatMul-free 1.3B")
    assert row[0] == "FPGA Alveo U250, ternip, 41 lanes together"
    assert row[2:7] == ("-", "969.9", "54.2", "-", "-")
    (found,) = (each for each in unrecorded.to_dict()["comparison"] if each["model"] == "MatMul-free 1.3B")
    assert found["lanes"] == 41
    assert found["tokens"] is None
    assert found["prefill_tokens_per_s"] is None
    assert "embedding and head" in found["leaves_out"]


def test_published_figures_stand_with_the_digits_that_were_published(unrecorded: Report) -> None:
    (table,) = (each for each in tables(unrecorded) if each.title.startswith("Beside published"))
    rows = {(row[1], row[2]): row[3:7] for row in table.rows}
    assert rows[("MatMul-free 370M, trained to be sparse", "500")] == ("224.1", "75.0", "23,200", "1.1")
    assert rows[("Qwen2 500M", "1000")] == ("14.0", "785", "909", "13.9")


def test_it_says_that_prefill_beside_others_includes_filling_the_pipeline(unrecorded: Report) -> None:
    (note,) = (each for each in notes(unrecorded) if each.startswith("Beside published systems"))
    assert "fills and empties" in note
    assert format_number(unrecorded.prediction.prefill.tokens_per_s) in note


def test_it_says_that_what_was_fitted_is_met_by_construction(unrecorded: Report) -> None:
    (note,) = (each for each in notes(unrecorded) if each.startswith("Ranges"))
    assert "no confidence intervals" in note
    assert "by construction" in note


def test_a_board_adds_its_energy_of_a_token_to_the_results(unrecorded: Report) -> None:
    assert unrecorded.board_energy("generate") is None
    board = replace(unrecorded, workload=replace(unrecorded.workload, board_chips=8))
    static = 8 * board.parameters.static_power.value
    for phase in PHASES:
        result = getattr(board.prediction, phase)
        expected = 1e3 * (static * result.seconds_per_token + result.dynamic_joules)
        found = board.board_energy(phase)
        assert found is not None
        assert found.value == pytest.approx(expected)
        assert board.to_dict()[phase]["board_millijoules_per_token"]["value"] == found.value
    rows = {row[0]: row for row in next(tables(board)).rows}
    generate = board.board_energy("generate")
    assert generate is not None
    assert rows["energy a token, whole board"][2] == f"{format_number(generate.value)} mJ"
    assert "energy a token, whole board" not in {row[0] for row in next(tables(unrecorded)).rows}


def test_the_residual_of_the_model_is_part_of_the_report(unrecorded: Report) -> None:
    residual = unrecorded.to_dict()["model"]["residual_generate_tokens_per_s"]
    predicted, published = (residual["inputs"][key] for key in ("predicted", "published"))
    assert residual["value"] == pytest.approx(predicted / published - 1)
    assert residual["inputs"]["parameters"].startswith("loihi2_model.toml")


def test_networks_that_others_measured_are_part_of_the_report_with_residual_and_source(unrecorded: Report) -> None:
    rows = unrecorded.to_dict()["model"]["validation"]
    assert {"PilotNet LIF, one chip", "YOLO-KP SDNN, nine chips"} == {row["network"] for row in rows}
    for row in rows:
        assert "lava-dl" in row["measured"]["inputs"]["citation"]
        assert row["modelled"]["inputs"]["parameters"] == "loihi2_model.toml"
        assert row["residual"]["inputs"]["parameters"] == "loihi2_model.toml"
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


def test_every_table_has_as_many_cells_as_columns_and_says_where_its_numbers_are_from(unrecorded: Report) -> None:
    found = list(tables(unrecorded))
    assert len(found) == 9
    for table in found:
        assert all(len(row) == len(table.columns) for row in table.rows)
        text = " ".join((table.title, *table.columns, *(cell for row in table.rows for cell in row)))
        assert any(source in text for source in ("modelled", "published", "formula held against RTL simulation"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.00"),
        (0.53, "0.530"),
        (41.5, "41.5"),
        (405, "405"),
        (999.4, "999"),
        (999.6, "1,000"),
        (19955.2, "19,955"),
        (0, "0"),
        (-0.0752, "-0.0752"),
    ],
)
def test_numbers_have_three_digits_at_least(value: float, text: str) -> None:
    assert format_number(value) == text


def test_a_net_in_the_working_folder_has_a_name(
    net_copy: Path, unrecorded: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(net_copy)
    assert build_report(load_net(".")).about["net"] == net_copy.name


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

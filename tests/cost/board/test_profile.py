"""What a run on a board took, and what the model says of the same run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.cost.board.profiler import Probes, ProfiledRun, read_profile


def test_a_run_is_read_into_the_reports_form(board: Any) -> None:
    document = board.profile().to_dict()
    assert document["measurement_method"] == "lava-loihi profiler"
    assert document["latency_seconds"]["value"] == pytest.approx(0.020)
    assert document["tokens_per_s"]["value"] == pytest.approx(500)
    assert document["total_energy_joules"]["value"] == pytest.approx(0.030)
    assert document["millijoules_per_token"]["value"] == pytest.approx(3)
    assert document["dynamic_energy_joules"]["value"] == pytest.approx(0.010)
    assert document["static_power_baseline_watts"]["value"] == pytest.approx(1)
    assert document["flags"] == []


def test_lavas_own_benchmark_of_a_spiking_pilotnet_gives_what_it_printed(board: Any) -> None:
    # 408.91 images a second of 16 steps each, 10,000 steps; the images take the place of tokens.
    power = board.Power(10_000, 0.679234, 0.232078, 0.252728, 0.422127, 0.004379)
    probes = Probes(power, board.Time(1e6 / 408.91 / 16), board.Activity())
    document = read_profile(probes, ProfiledRun(625, 0, 10_000), board.expectation()).to_dict()
    assert document["tokens_per_s"]["value"] == pytest.approx(408.91)
    assert document["millijoules_per_token"]["value"] == pytest.approx(1.661103, rel=1e-4)
    assert document["dynamic_energy_joules"]["value"] / 625 == pytest.approx(1.093544e-3, rel=1e-4)
    rails = [each["value"] for each in document["energy_by_rail_joules"].values()]
    assert sum(rails) == pytest.approx(document["total_energy_joules"]["value"], rel=1e-5)


def test_the_negative_dynamic_power_that_lavas_own_benchmark_of_a_sigma_delta_pilotnet_printed_is_flagged(
    board: Any,
) -> None:
    probes = Probes(board.Power(2000, 0.275709, 0.281775), board.Time(1e6 / 16.87), board.Activity())
    document = read_profile(probes, ProfiledRun(2000, 0, 2000), board.expectation()).to_dict()
    assert document["millijoules_per_token"]["value"] == pytest.approx(16.343833, rel=1e-4)
    assert "negative" in document["flags"][0]
    assert "dynamic_energy_joules" not in document


def test_power_is_the_mean_of_its_samples(board: Any) -> None:
    document = board.profile(board.Power(total_power=np.array([1.0, 2.0, 3.0]))).to_dict()
    assert document["total_energy_joules"]["value"] == pytest.approx(0.040)


def test_energy_of_a_rail_is_its_mean_power_for_the_time_of_the_run(board: Any) -> None:
    rails = board.profile(board.Power(vdd_power=np.array([0.5, 1.5]), vddm_power=0.4)).to_dict()[
        "energy_by_rail_joules"
    ]
    assert {rail: each["value"] for rail, each in rails.items()} == pytest.approx({"vdd": 0.020, "vddm": 0.008})


def test_every_number_of_the_board_is_measured_and_says_how(board: Any) -> None:
    document = board.profile().to_dict()
    quantities = [each for each in document.values() if isinstance(each, dict) and "value" in each]
    quantities += document["activity"]["per_token"].values()
    assert len(quantities) == 11
    for each in quantities:
        assert each["source"] == "measured"
        assert each["inputs"]["measurement_method"] == "lava-loihi profiler"


def test_it_says_that_it_is_of_the_whole_board_and_of_prompt_and_generation_together(board: Any) -> None:
    document = board.profile().to_dict()
    assert "whole board" in document["scope"]
    assert "prompt and generating together" in document["scope"]
    assert [document[name] for name in ("tokens", "prompt_tokens", "new_tokens_read")] == [10, 7, 3]


def test_the_document_names_its_schema(board: Any) -> None:
    assert board.profile().to_dict()["schema_version"] == 1


def test_every_field_of_the_document_is_described(board: Any) -> None:
    text = (Path(__file__).parents[3] / "docs" / "reports.md").read_text()
    rows = re.findall(r"^\|([^|]*)\|", text.partition("## On a board")[2], flags=re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    document = board.profile().to_dict()
    activity = {f"activity.{name}" for name in document.pop("activity")}
    assert document.keys() | activity <= described


def test_the_model_is_asked_for_the_very_tokens_that_were_read(board: Any) -> None:
    expected = board.expectation()
    # 7 tokens through 4 steps take 10 steps, 3 alone 4 each; every one waits for 1000 operations and the barrier.
    of = expected.parameters
    step = 1000 * of.synaptic_operation_time.si * of.core_time_scale.si + of.barrier_single_chip.si
    modelled = board.profile(expected=expected).to_dict()["modelled"]
    assert modelled["latency_seconds"]["value"] == pytest.approx(22 * step)
    assert modelled["tokens_per_s"]["value"] == pytest.approx(10 / (22 * step))
    events = 10 * 4000 * of.synaptic_operation_energy.si * of.dynamic_energy_scale.si
    assert modelled["total_energy_joules"]["value"] == pytest.approx(of.static_power.si * 22 * step + events)
    assert modelled["dynamic_energy_joules"]["value"] == pytest.approx(events)


def test_every_measured_quantity_has_a_modelled_one_that_names_what_it_was_made_from(board: Any) -> None:
    document = board.profile().to_dict()
    measured = {name for name, each in document.items() if isinstance(each, dict) and "value" in each}
    assert document["modelled"].keys() == measured
    for each in document["modelled"].values():
        assert each["source"] == "modelled"
        assert each["inputs"]["activity"] == "made up"
        assert (each["inputs"]["prompt_tokens"], each["inputs"]["new_tokens_read"]) == (7, 3)


def test_modelled_energy_is_of_the_whole_board_where_one_is_known(board: Any) -> None:
    watts = "static_power_baseline_watts"
    whole = board.profile(expected=board.expectation(chips=2, board=8)).to_dict()["modelled"][watts]
    used = board.profile(expected=board.expectation(chips=2)).to_dict()["modelled"][watts]
    assert whole["value"] == pytest.approx(4 * used["value"])
    assert whole["inputs"]["scope"] == "whole board (8 chips, 2 in use)"
    assert "chips in use (2)" in used["inputs"]["scope"]


def test_a_prompt_alone_is_modelled_too(board: Any) -> None:
    modelled = board.profile(run=ProfiledRun(7, 0, 100)).to_dict()["modelled"]
    ten, four = modelled["latency_seconds"]["value"], board.profile(run=ProfiledRun(1, 0, 4)).to_dict()["modelled"]
    assert ten / four["latency_seconds"]["value"] == pytest.approx(10 / 4)


def test_a_run_that_ended_early_is_flagged(board: Any) -> None:
    (flag,) = board.profile(run=ProfiledRun(7, 3, 100, ended_early=True)).to_dict()["flags"]
    assert "`stop_at_end_of_text=False`" in flag


def test_dynamic_energy_within_noise_is_flagged_and_not_reported(board: Any) -> None:
    document = board.profile(board.Power(total_power=1.01)).to_dict()
    assert "within noise" in document["flags"][0]
    assert "dynamic_energy_joules" not in document

"""Measurements through Lava's profiler, against a stand-in of its public interface: no board is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.report.profiler import read_profile


@dataclass
class StandInProfiler:
    """What Lava's profiler lets one read after a run; the numbers are made up."""

    execution_time: Any
    energy: Any
    static_energy: Any


def profiler(energy: Any, static: Any) -> StandInProfiler:
    return StandInProfiler(np.full(100, 2e-4), energy, static)


def test_a_run_is_read_into_the_reports_form() -> None:
    document = read_profile(profiler(0.030, 0.020), tokens=10, steps=100).to_dict()
    assert document["measurement_method"] == "lava-loihi profiler"
    assert document["tokens_per_s"]["value"] == pytest.approx(500)
    assert document["millijoules_per_token"]["value"] == pytest.approx(3)
    assert document["dynamic_energy_joules"]["value"] == pytest.approx(0.010)
    assert document["static_power_baseline_watts"]["value"] == pytest.approx(1)
    assert document["flags"] == []


def test_rails_and_steps_are_summed() -> None:
    rails = {"vdd": np.full(100, 2e-4), "vddm": np.full(100, 1e-4), "vddio": 0.005}
    document = read_profile(profiler(rails, {"vdd": 0.010}), tokens=10, steps=100).to_dict()
    assert document["total_energy_joules"]["value"] == pytest.approx(0.035)
    assert document["energy_by_rail_joules"]["vddm"]["value"] == pytest.approx(0.010)


def test_every_number_is_measured_and_says_how() -> None:
    document = read_profile(profiler(0.030, 0.020), tokens=10, steps=100).to_dict()
    for each in document.values():
        if isinstance(each, dict) and "value" in each:
            assert each["source"] == "measured"
            assert each["inputs"]["measurement_method"] == "lava-loihi profiler"


def test_it_says_that_energy_is_of_the_whole_board() -> None:
    assert "whole board" in read_profile(profiler(0.030, 0.020), tokens=10, steps=100).to_dict()["scope"]


def test_negative_dynamic_energy_is_flagged_and_not_reported() -> None:
    document = read_profile(profiler(0.019, 0.020), tokens=10, steps=100).to_dict()
    assert "negative" in document["flags"][0]
    assert "dynamic_energy_joules" not in document


def test_dynamic_energy_within_noise_is_flagged_and_not_reported() -> None:
    document = read_profile(profiler(0.0201, 0.020), tokens=10, steps=100).to_dict()
    assert "within noise" in document["flags"][0]
    assert "dynamic_energy_joules" not in document


def test_a_probe_that_recorded_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="recorded nothing"):
        read_profile(StandInProfiler(np.zeros(0), 1.0, 0.5), tokens=10, steps=100)


def test_a_reading_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="energy"):
        read_profile(profiler(float("nan"), 0.5), tokens=10, steps=100)

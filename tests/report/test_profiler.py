"""Measurements through Lava's profiler, against a stand-in of its public interface: no board is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.report.profiler import attach_probes, read_profile


@dataclass
class StandInProfiler:
    """What programs of its users read from Lava's profiler: units and shapes as there, the numbers are made up.

    `execution_time` in seconds, one a step; `energy` and `static_energy` in joules, of the run; power of the rails
    in watts.
    """

    execution_time: Any
    energy: Any
    static_energy: Any
    vdd_power: Any = None
    vddm_power: Any = None
    vddio_power: Any = None


class StandInHardwareProfiler:
    """What Lava's public part makes of a run configuration, as far as probes are attached to it."""

    def __init__(self, run_config: Any) -> None:
        self.run_config = run_config
        self.probes: dict[str, int] = {}

    def execution_time_probe(self, num_steps: int) -> None:
        self.probes["execution_time"] = num_steps

    def energy_probe(self, num_steps: int) -> None:
        self.probes["energy"] = num_steps


def profiler(energy: Any, static: Any) -> StandInProfiler:
    return StandInProfiler(np.full(100, 2e-4), energy, static)


@pytest.mark.filterwarnings("ignore")  # Lava says that the hardware's profiler is not there.
def test_probes_are_attached_through_lavas_own_choice_of_a_profiler(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lava.magma")
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.utils.profiler import run_cfg_dict

    run_config = Loihi2SimCfg()
    monkeypatch.setitem(run_cfg_dict, Loihi2SimCfg, StandInHardwareProfiler)
    attached = attach_probes(run_config, steps=300)
    assert attached.run_config is run_config
    assert attached.probes == {"execution_time": 300, "energy": 300}


@pytest.mark.filterwarnings("ignore")  # Lava says that the hardware's profiler is not there.
def test_without_intels_extension_lava_refuses_to_profile() -> None:
    pytest.importorskip("lava.magma")
    from lava.magma.core.run_configs import Loihi2SimCfg

    with pytest.raises(NotImplementedError):
        attach_probes(Loihi2SimCfg(), steps=300)


def test_a_run_is_read_into_the_reports_form() -> None:
    document = read_profile(profiler(0.030, 0.020), tokens=10, steps=100).to_dict()
    assert document["measurement_method"] == "lava-loihi profiler"
    assert document["tokens_per_s"]["value"] == pytest.approx(500)
    assert document["millijoules_per_token"]["value"] == pytest.approx(3)
    assert document["dynamic_energy_joules"]["value"] == pytest.approx(0.010)
    assert document["static_power_baseline_watts"]["value"] == pytest.approx(1)
    assert document["flags"] == []


def test_energy_of_the_steps_is_summed() -> None:
    document = read_profile(profiler(np.full(100, 3e-4), np.full(100, 2e-4)), tokens=10, steps=100).to_dict()
    assert document["total_energy_joules"]["value"] == pytest.approx(0.030)
    assert document["static_energy_joules"]["value"] == pytest.approx(0.020)


def test_energy_of_a_rail_is_its_mean_power_for_the_time_of_the_run() -> None:
    found = profiler(0.030, 0.020)
    found.vdd_power, found.vddm_power = np.array([0.5, 1.5]), 0.4
    rails = read_profile(found, tokens=10, steps=100).to_dict()["energy_by_rail_joules"]
    assert {rail: each["value"] for rail, each in rails.items()} == pytest.approx({"vdd": 0.020, "vddm": 0.008})


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


@pytest.mark.parametrize("rail", ["vdd", "vddm", "vddio"])
def test_the_power_of_a_rail_that_is_no_number_is_refused(rail: str) -> None:
    found = profiler(0.030, 0.020)
    setattr(found, f"{rail}_power", np.array([0.5, np.nan]))
    with pytest.raises(ValueError, match=f"{rail}_power"):
        read_profile(found, tokens=10, steps=100)


def test_a_reading_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="energy"):
        read_profile(profiler(float("nan"), 0.5), tokens=10, steps=100)

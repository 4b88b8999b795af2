"""Probes of Lava's profiler: how they are attached, and which readings are refused."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.cost.board.profiler import attach_probes, read_profile
from loihi_mmfree.errors import BackendUnavailableError, MeasurementError


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch, board: Any) -> None:
    """A stand-in for the module of Intel's extension."""
    pytest.importorskip("lava.magma")
    module = ModuleType("lava.utils.loihi2_profiler")
    vars(module).update(Loihi2Power=board.Power, Loihi2ExecutionTime=board.Time, Loihi2Activity=board.Activity)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_probes_are_handed_to_lavas_run_configuration_after_those_of_the_user(extension: None) -> None:
    from lava.magma.core.run_configs import Loihi2HwCfg

    run_config = Loihi2HwCfg(callback_fxs=["the user's"])
    probes = attach_probes(run_config, steps=300)
    assert run_config.callback_fxs == ["the user's", probes.power, probes.time, probes.activity]


def test_power_is_sampled_over_all_steps(extension: None, board: Any) -> None:
    attached = attach_probes(SimpleNamespace(callback_fxs=[]), steps=300)
    assert isinstance(attached.power, board.Power)
    assert attached.power.num_steps == 300


def test_without_intels_extension_it_says_how_to_get_it() -> None:
    with pytest.raises(BackendUnavailableError, match=r"loihi2_profiler.*INRC"):
        attach_probes(SimpleNamespace(callback_fxs=[]), steps=300)


def test_a_runner_without_probes_is_told_what_to_do(board: Any) -> None:
    with pytest.raises(MeasurementError, match="attach_probes"):
        read_profile(None, board.TEN_TOKENS, board.expectation())


def test_a_probe_that_recorded_no_time_is_refused(board: Any) -> None:
    with pytest.raises(MeasurementError, match="recorded nothing"):
        board.profile(time=board.Time(0.0))


@pytest.mark.parametrize("name", ["total_power", "static_total_power", "vdd_power", "vddm_power", "vddio_power"])
def test_a_power_that_is_no_number_is_refused(name: str, board: Any) -> None:
    power = board.Power()
    setattr(power, name, np.array([0.5, np.nan]))
    with pytest.raises(MeasurementError, match=f"^{name}"):
        board.profile(power)


@pytest.mark.parametrize("reading", [None, np.zeros(0), float("nan")])
def test_a_time_that_is_not_there_or_no_number_is_refused(reading: Any, board: Any) -> None:
    with pytest.raises(MeasurementError, match="avg_time_per_step"):
        board.profile(time=board.Time(reading))

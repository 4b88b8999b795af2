"""Lava's profiler as a stand-in of its public interface: no board is here.

The interface is that of lava-dl, tutorials/lava/lib/dl/netx/pilotnet_snn/benchmark.ipynb and
pilotnet_sdnn/benchmark.ipynb (commit b9e3691), which print what a board with one Loihi 2 gave.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.cost.board.profiler import Probes, Profile, ProfiledRun, read_profile
from loihi_mmfree.cost.expectation import Expectation
from loihi_mmfree.cost.parameters import load_parameters
from loihi_mmfree.cost.workload import CoreLoad, Events, StepLoad, Workload


@dataclass
class StandInPower:
    """`Loihi2Power` as the notebooks read it: watts, of the whole board."""

    num_steps: int = 100
    total_power: Any = 1.5
    static_total_power: Any = 1.0
    vdd_power: Any = None
    vddm_power: Any = None
    vddio_power: Any = None


@dataclass
class StandInTime:
    """`Loihi2ExecutionTime` as the notebooks read it: microseconds."""

    avg_time_per_step: Any = 200.0


@dataclass
class StandInActivity:
    """`Loihi2Activity` as the notebooks read it: an element a core, summed over the run; numbers made up."""

    core_idx: Any = field(default_factory=lambda: np.array([0, 1, 5]))
    syn_ops: Any = field(default_factory=lambda: np.array([1000, 0, 3000]))
    dendrite_updates: Any = field(default_factory=lambda: np.array([200, 400, 0]))
    spikes_in: Any = field(default_factory=lambda: np.array([10, 20, 30]))
    axon_out: Any = field(default_factory=lambda: np.array([5, 6, 7]))


def expectation(chips: int = 1, cores: int = 3, board: int | None = None, **per_token: float) -> Expectation:
    """A network of four steps a token, in each of which one core does 1000 synaptic operations."""
    step = StepLoad((CoreLoad(synaptic_operations=1000.0),), chip_messages=0.0)
    workload = Workload(chips, cores, board, step, (step,) * 4, Events(4000.0, 0, 0, 0, 0), "made up")
    return Expectation(workload, load_parameters(), per_token, {"activity": "made up", "activity_tokens": 1})


TEN_TOKENS = ProfiledRun(prompt_tokens=7, new_tokens_read=3, steps=100)


def profile(
    power: StandInPower | None = None,
    time: StandInTime | None = None,
    activity: Any = None,
    expected: Expectation | None = None,
    run: ProfiledRun = TEN_TOKENS,
) -> Profile:
    """Ten tokens in a hundred steps: 20 ms, by default 30 mJ, 20 mJ of them static."""
    probes = Probes(power or StandInPower(), time or StandInTime(), activity or StandInActivity())
    return read_profile(probes, run, expected or expectation())


class StandIn:
    """What a board's profiler offers, made up, and what is expected of such a board."""

    Power, Time, Activity = StandInPower, StandInTime, StandInActivity
    TEN_TOKENS = TEN_TOKENS
    expectation = staticmethod(expectation)
    profile = staticmethod(profile)


@pytest.fixture(scope="session")
def board() -> type[StandIn]:
    """A board that is not here."""
    return StandIn

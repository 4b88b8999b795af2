"""Fits the three absolute scales of the model to the published system.

Three published numbers fix three parameters. Time: one step of prefill fixes the scale of all times within a core.
Energy: a token causes the same events in both phases, so prefill and generate differ by static power alone,

    E_prefill  = P n t_prefill  + D        E_generate = P n t_generate + D,

with n chips, and t_generate as the model has it. The published throughput of generating is not used: it is
predicted, and its residual is what the model can be judged by.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from loihi_mmfree.cost.model import barrier_seconds, core_seconds, event_joules, link_seconds, predict
from loihi_mmfree.cost.parameters import ModelParameters
from loihi_mmfree.cost.published import load_published
from loihi_mmfree.cost.workload import Workload

REFERENCE_FILE = "loihi2_reference_workload.json"
FITTED = ("core_time_scale", "dynamic_energy_scale", "static_power")


@dataclass(frozen=True)
class Target:
    """What was published of the system that the model is fitted to."""

    prefill_tokens_per_s: float
    prefill_millijoules: float
    generate_millijoules: float
    generate_tokens_per_s: float


@cache
def published_target() -> Target:
    """Return what was published of the dense 370M on Loihi 2; it is the same at every length."""
    system = next(each for each in load_published().systems if each.hardware.startswith("Loihi 2"))
    return Target(
        system.prefill_tokens_per_s[0],
        system.prefill_millijoules[0],
        system.generate_millijoules[0],
        system.generate_tokens_per_s[0],
    )


def fit(workload: Workload, parameters: ModelParameters, target: Target | None = None) -> ModelParameters:
    """Return the parameters with the fitted ones replaced; the default target is the published one.

    Raises
    ------
    ValueError
        The targets cannot be met: barriers or links alone take longer than the published step.
    """
    target = target or published_target()
    unit = parameters.with_values(core_time_scale=1.0, dynamic_energy_scale=1.0)
    step = 1 / target.prefill_tokens_per_s
    core = step - barrier_seconds(workload.chips, unit)
    slowest = max(core_seconds(load, unit) for load in workload.pipelined.cores)
    if core <= link_seconds(workload.pipelined, unit):
        raise ValueError("the barrier and the busiest link alone take longer than the published step")
    timed = unit.with_values(core_time_scale=core / slowest)
    generate = predict(workload, timed).generate.seconds_per_token
    watts = 1e-3 * (target.generate_millijoules - target.prefill_millijoules) / (generate - step)
    dynamic = 1e-3 * target.prefill_millijoules - watts * step
    if dynamic <= 0:
        raise ValueError("static power alone takes more than the published energy of prefill")
    return timed.with_values(
        static_power=watts / workload.chips,
        dynamic_energy_scale=dynamic / event_joules(workload.events, unit),
    )


def reference_workload() -> Workload:
    """Return the workload of the published system as this package would place it, counted beforehand."""
    path = files("loihi_mmfree").joinpath("data").joinpath(REFERENCE_FILE)
    return Workload.from_dict(json.loads(path.read_text(encoding="utf-8")))

"""Measurements on a board, through the public interface of Lava's profiler, in the form of the report.

Lava's public part only picks a profiler by the run configuration (`lava.utils.profiler.Profiler.init`); the
profiler itself is in Intel's extension, and we have no board. What can be read from it after a run is known from
programs that its users have published: `execution_time` in seconds, one value a step; `energy` and `static_energy`
in joules, of the run; `vdd_power` (neurocores, mesh), `vddm_power` (memory) and `vddio_power` (links off the chip)
in watts. Activity can be plotted but not read, so it is not taken. This is tested against a stand-in of that
interface.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from loihi_mmfree.report.quantity import Quantity

MEASUREMENT_METHOD = "lava-loihi profiler"
NOISE_SHARE = 0.02
"""Dynamic energy below this share of the static one is not told from drift of the static power: our choice."""


RAILS = ("vdd", "vddm", "vddio")
"""Supply rails; a profiler offers the power of each as an attribute of this name and `_power`."""


class Profiler(Protocol):
    """What is read after a run, a number or an array over steps or samples; the power of rails may be missing.

    Parameters
    ----------
    execution_time : float or array
        Seconds: of the run, or of each step.
    energy, static_energy : float or array
        Joules: of the run, or of each step; all chips of the board.
    """

    execution_time: Any
    energy: Any
    static_energy: Any


@dataclass(frozen=True)
class Profile:
    """What a run on a board took.

    Parameters
    ----------
    tokens, steps : int
    seconds : float
    joules, static_joules : float
        Of the whole board: every chip on it, in use or not.
    rail_watts : mapping rail -> float
        Mean power; empty if the profiler does not tell rails apart.
    """

    tokens: int
    steps: int
    seconds: float
    joules: float
    static_joules: float
    rail_watts: Mapping[str, float]

    @property
    def flags(self) -> tuple[str, ...]:
        """What keeps a number from being printed."""
        dynamic = self.joules - self.static_joules
        if dynamic < 0:
            return (
                f"dynamic energy is negative, {dynamic:.3g} J: the static baseline was measured at another "
                "temperature or state; measure longer, and the baseline again",
            )
        if dynamic < NOISE_SHARE * self.static_joules:
            return (
                f"dynamic energy, {dynamic:.3g} J, is less than {NOISE_SHARE:.0%} of the static one: within "
                "noise; measure longer",
            )
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; a flagged dynamic energy is left out."""
        named = {
            "latency_seconds": (self.seconds, "s"),
            "total_energy_joules": (self.joules, "J"),
            "static_energy_joules": (self.static_joules, "J"),
            "static_power_baseline_watts": (self.static_joules / self.seconds, "W"),
            "tokens_per_s": (self.tokens / self.seconds, "tokens/s"),
            "millijoules_per_token": (1e3 * self.joules / self.tokens, "mJ"),
        }
        if not self.flags:
            named["dynamic_energy_joules"] = (self.joules - self.static_joules, "J")
        return {
            "measurement_method": MEASUREMENT_METHOD,
            "scope": "whole board, every chip of it",
            "tokens": self.tokens,
            "steps": self.steps,
            **{name: self._measured(value, unit) for name, (value, unit) in named.items()},
            "energy_by_rail_joules": {
                rail: self._measured(watts * self.seconds, "J") for rail, watts in self.rail_watts.items()
            },
            "flags": list(self.flags),
        }

    def _measured(self, value: float, unit: str) -> dict[str, Any]:
        inputs = {"measurement_method": MEASUREMENT_METHOD, "tokens": self.tokens, "steps": self.steps}
        return Quantity(value, unit, "measured", inputs).to_dict()


def attach_probes(run_config: Any, steps: int) -> Any:
    """Return a profiler with probes of time and energy; call it before the network starts, for one run.

    Parameters
    ----------
    run_config : lava.magma.core.run_configs.Loihi2HwCfg
        Of this very class: Lava finds no profiler for a subclass of it.
    steps : int
        Time steps to record.

    Raises
    ------
    NotImplementedError
        By Lava, where Intel's extension is not installed.
    """
    from lava.utils.profiler import Profiler as LavaProfiler

    profiler: Any = LavaProfiler.init(run_config)
    profiler.execution_time_probe(num_steps=steps)
    profiler.energy_probe(num_steps=steps)
    return profiler


def read_profile(profiler: Profiler, tokens: int, steps: int) -> Profile:
    """Read a profiler after the network has stopped.

    Parameters
    ----------
    profiler : Profiler
        With probes of time and energy.
    tokens, steps : int
        That passed while the probes were on.

    Raises
    ------
    ValueError
        A reading is no finite number, or the time is not positive.
    """
    seconds = _total(profiler.execution_time, "execution_time")
    if seconds <= 0:
        raise ValueError(f"execution_time is {seconds} s: the probe recorded nothing")
    return Profile(
        tokens,
        steps,
        seconds,
        joules=_total(profiler.energy, "energy"),
        static_joules=_total(profiler.static_energy, "static_energy"),
        rail_watts={
            rail: _finite(np.mean(np.asarray(power, dtype=np.float64)), f"{rail}_power")
            for rail in RAILS
            if (power := getattr(profiler, f"{rail}_power", None)) is not None
        },
    )


def _total(reading: Any, name: str) -> float:
    """The sum of a reading over its steps."""
    return _finite(np.sum(np.asarray(reading, dtype=np.float64)), name)


def _finite(value: Any, name: str) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(f"{name}: the profiler gave {number}, which is no finite number")
    return number

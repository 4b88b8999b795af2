"""Measurements on a board, through the public interface of Lava's profiler, in the form of the report.

The profiler itself is part of Intel's extension, and we have no board: this is written against what Lava documents
(`lava.utils.profiler.Profiler`) and tested against a stand-in of it.
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


class Profiler(Protocol):
    """What is read after a run: seconds and joules, a total, one a step, or one for each supply rail."""

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
    energy, static_energy : mapping rail -> float
        Joules of the whole board: every chip on it, in use or not. The key is "all" if rails are not told apart.
    """

    tokens: int
    steps: int
    seconds: float
    energy: Mapping[str, float]
    static_energy: Mapping[str, float]

    @property
    def joules(self) -> float:
        """Total energy."""
        return sum(self.energy.values())

    @property
    def static_joules(self) -> float:
        """Static part of it."""
        return sum(self.static_energy.values())

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
            "energy_by_rail_joules": {rail: self._measured(value, "J") for rail, value in self.energy.items()},
            "flags": list(self.flags),
        }

    def _measured(self, value: float, unit: str) -> dict[str, Any]:
        inputs = {"measurement_method": MEASUREMENT_METHOD, "tokens": self.tokens, "steps": self.steps}
        return Quantity(value, unit, "measured", inputs).to_dict()


def attach_probes(run_config: Any, steps: int) -> Any:
    """Return a profiler with probes of time and energy; call it before the network starts.

    Parameters
    ----------
    run_config : lava.magma.core.run_configs.Loihi2HwCfg
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
    seconds = sum(_by_rail(profiler.execution_time, "execution_time").values())
    if seconds <= 0:
        raise ValueError(f"execution_time is {seconds} s: the probe recorded nothing")
    return Profile(
        tokens,
        steps,
        seconds,
        _by_rail(profiler.energy, "energy"),
        _by_rail(profiler.static_energy, "static_energy"),
    )


def _by_rail(reading: Any, name: str) -> dict[str, float]:
    """Sum a reading over its steps, for each rail."""
    rails = reading if isinstance(reading, Mapping) else {"all": reading}
    sums = {str(rail): float(np.sum(np.asarray(values, dtype=np.float64))) for rail, values in rails.items()}
    if not all(np.isfinite(value) for value in sums.values()):
        raise ValueError(f"{name}: the profiler gave {reading!r}, which is no finite number")
    return sums

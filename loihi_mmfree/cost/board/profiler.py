"""Measurements on a board, through the public interface of Lava's profiler, in the form of the report.

The profiler, `lava.utils.loihi2_profiler`, is in Intel's extension, and we have no board. What can be read from it
after a run is known from Lava's own benchmarks of PilotNet, published with the outputs of a board with one Loihi 2
(lava-dl, tutorials/lava/lib/dl/netx/pilotnet_snn/benchmark.ipynb and pilotnet_sdnn/benchmark.ipynb, b9e3691): the
time of a step in microseconds, power of the whole board and of its rails in watts, and the activity of every core.
Time and energy are held against the figures printed there; all is tested against a stand-in of that interface.

Lava has a second, newer way, `lava.utils.profiler.Profiler.init`. It is not used: one of its users writes that
activity cannot be read from it, and we know of no program that runs both ways together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from loihi_mmfree.cost.board.core_activity import CoreActivity, read_core_activity
from loihi_mmfree.cost.expectation import Expectation
from loihi_mmfree.cost.quantity import Quantity
from loihi_mmfree.errors import BackendUnavailableError, MeasurementError
from loihi_mmfree.manual import manual_page
from loihi_mmfree.sim.session.chip import HOW_TO_GET_IT
from loihi_mmfree.sim.session.generate import RunResult

SCHEMA_VERSION = 1
MEASUREMENT_METHOD = "lava-loihi profiler"
SCOPE = "whole board, every chip of it; the whole run, reading the prompt and generating together"
NOISE_SHARE = 0.02
"""Dynamic energy below this share of the static one is not told from drift of the static power: our choice."""

SAME_OPERATIONS = 0.01
"""A ratio of synaptic operations, measured to expected, this far from one is pointed out: our choice."""

RAILS = ("vdd", "vddm", "vddio")
"""Supply rails: neurocores and mesh, memory, links off the chip. The profiler offers the power of each as an
attribute of this name and `_power`."""


class PowerLogger(Protocol):
    """What is read of `Loihi2Power`; the power of rails, of the same form, may be missing.

    Parameters
    ----------
    total_power : float or array
        Watts, samples at equal intervals of the run; all chips of the board.
    static_total_power : float or array
        Watts, of the idle board after the run.
    """

    total_power: Any
    static_total_power: Any


class TimeLogger(Protocol):
    """What is read of `Loihi2ExecutionTime`.

    Parameters
    ----------
    avg_time_per_step : float
        Microseconds.
    """

    avg_time_per_step: Any


@dataclass(frozen=True)
class Probes:
    """What is attached to a run and read after it.

    Parameters
    ----------
    power : PowerLogger, optional
        None where nothing measures it: then there is no energy.
    time : TimeLogger
    activity : lava.utils.loihi2_profiler.Loihi2Activity
        See `core_activity`; what it lacks is flagged.
    method, scope : str
        How, and of what. A runner that measures otherwise than with Lava's profiler, or something else than a
        board, says so here.
    """

    power: PowerLogger | None
    time: TimeLogger
    activity: Any
    method: str = MEASUREMENT_METHOD
    scope: str = SCOPE


@dataclass(frozen=True)
class ProfiledRun:
    """What passed while the probes were on.

    Parameters
    ----------
    prompt_tokens : int
    new_tokens_read : int
        Generated tokens that were read in turn: all but the last.
    steps : int
        Time steps, of both.
    ended_early : bool
        Fewer tokens were generated than the power probe was told to reckon with.
    ids_sha256 : str
        Of the token ids that were read, int64 little-endian; empty if unknown.
    """

    prompt_tokens: int
    new_tokens_read: int
    steps: int
    ended_early: bool = False
    ids_sha256: str = ""

    @classmethod
    def of(cls, result: RunResult, new_tokens: int) -> ProfiledRun:
        """Return that of a run which was to generate so many tokens."""
        prompt = len(result.prompt_ids)
        read = np.array(result.ids, dtype="<i8")
        return cls(
            prompt,
            len(read) - prompt,
            result.steps,
            ended_early=len(result.new_ids) < new_tokens,
            ids_sha256=hashlib.sha256(read.tobytes()).hexdigest(),
        )

    @property
    def tokens(self) -> int:
        """All tokens that were read."""
        return self.prompt_tokens + self.new_tokens_read


@dataclass(frozen=True)
class Profile:
    """What a run on a board took.

    Parameters
    ----------
    run : ProfiledRun
    seconds : float
    joules, static_joules : float, optional
        Of the whole board: every chip on it, in use or not. None where no power was measured.
    rail_watts : mapping rail -> float
        Mean power; empty if the profiler does not tell rails apart.
    activity : CoreActivity
        Over the run.
    expected : Expectation
        What all this is held against.
    method, scope : str
        How it was measured, and of what.
    """

    run: ProfiledRun
    seconds: float
    joules: float | None
    static_joules: float | None
    rail_watts: Mapping[str, float]
    activity: CoreActivity
    expected: Expectation
    method: str = MEASUREMENT_METHOD
    scope: str = SCOPE

    @property
    def same_ids(self) -> bool | None:
        """Whether the board read the ids that the activity was recorded of; None if that is not known."""
        both = self.run.ids_sha256, self.expected.ids_sha256
        return both[0] == both[1] if all(both) else None

    @property
    def flags(self) -> tuple[str, ...]:
        """What keeps numbers from being printed or trusted."""
        workload = self.expected.workload
        counted = self.activity.flags(workload.chips, workload.cores)
        return (*self._run_flags, *self._energy_flags, *counted, *self._operation_flags)

    @property
    def _run_flags(self) -> tuple[str, ...]:
        if not self.run.ended_early:
            return ()
        return (
            "fewer tokens were generated than the power probe was told to reckon with, and whether its mean then "
            "holds steps that never came is not public; measure with `stop_at_end_of_text=False`",
        )

    @property
    def _energy_flags(self) -> tuple[str, ...]:
        if self.joules is None or self.static_joules is None:
            return ("no power was measured, so there is no energy",)
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

    @property
    def _operation_flags(self) -> tuple[str, ...]:
        name = "synaptic_operations"
        if name not in self.activity.totals or not self.expected.per_token.get(name):
            return ()
        ratio = self.activity.totals[name] / self.run.tokens / self.expected.per_token[name]
        if abs(ratio - 1) <= SAME_OPERATIONS:
            return ()
        other = {
            True: "",
            False: ", and the activity was recorded of other tokens",
            None: ", and the activity may have been recorded of other tokens",
        }[self.same_ids]
        return (
            f"activity: {ratio:.4g} times the synaptic operations expected; those count zero weights, which a "
            f"compiler may leave out{other}",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; a flagged dynamic energy is left out."""
        run = self.run
        named = {
            "latency_seconds": (self.seconds, "s"),
            "tokens_per_s": (run.tokens / self.seconds, "tokens/s"),
            **self._energies(),
        }
        modelled = self.expected.run(run.prompt_tokens, run.new_tokens_read)
        return {
            "schema_version": SCHEMA_VERSION,
            "measurement_method": self.method,
            "scope": self.scope,
            "tokens": run.tokens,
            "prompt_tokens": run.prompt_tokens,
            "new_tokens_read": run.new_tokens_read,
            "steps": run.steps,
            **{name: self._measured(value, unit) for name, (value, unit) in named.items()},
            "modelled": {name: each.to_dict() for name, each in modelled.items()},
            "energy_by_rail_joules": {
                rail: self._measured(watts * self.seconds, "J") for rail, watts in self.rail_watts.items()
            },
            "activity": self._activity(),
            "flags": list(self.flags),
        }

    def _energies(self) -> dict[str, tuple[float, str]]:
        """Energies with their units; nothing without power, and no dynamic one that is flagged."""
        if self.joules is None or self.static_joules is None:
            return {}
        dynamic = {"dynamic_energy_joules": (self.joules - self.static_joules, "J")}
        return {
            "millijoules_per_token": (1e3 * self.joules / self.run.tokens, "mJ"),
            "total_energy_joules": (self.joules, "J"),
            "static_energy_joules": (self.static_joules, "J"),
            **({} if self._energy_flags else dynamic),
            "static_power_baseline_watts": (self.static_joules / self.seconds, "W"),
        }

    def _activity(self) -> dict[str, Any]:
        return {
            "per_token": {
                name: self._measured(total / self.run.tokens, name.replace("_", " "))
                for name, total in self.activity.totals.items()
            },
            "expected_per_token": {name: each.to_dict() for name, each in self.expected.events().items()},
            "same_ids": self.same_ids,
            "by_core": {name: list(column) for name, column in self.activity.columns.items()},
        }

    def _measured(self, value: float, unit: str) -> dict[str, Any]:
        inputs = {"measurement_method": self.method, "tokens": self.run.tokens, "steps": self.run.steps}
        return Quantity(value, unit, "measured", inputs).to_dict()


def attach_probes(run_config: Any, steps: int) -> Probes:
    """Give a run probes of power, time and activity; call it before the network starts, for one run.

    Parameters
    ----------
    run_config : lava.magma.core.run_configs.Loihi2HwCfg
        The probes go to the end of its `callback_fxs`.
    steps : int
        Time steps to record, at most: what the runner was called with. A run that ends earlier is flagged.

    Raises
    ------
    BackendUnavailableError
        Intel's extension is not installed.
    """
    try:
        from lava.utils import loihi2_profiler
    except ImportError as error:
        raise BackendUnavailableError(
            "profile: lava.utils.loihi2_profiler cannot be imported; it is part of Intel's Loihi extension. "
            f"{HOW_TO_GET_IT}"
        ) from error
    probes = Probes(
        power=loihi2_profiler.Loihi2Power(num_steps=steps),
        time=loihi2_profiler.Loihi2ExecutionTime(),
        activity=loihi2_profiler.Loihi2Activity(),
    )
    run_config.callback_fxs.extend((probes.power, probes.time, probes.activity))
    return probes


def read_profile(probes: Probes | None, run: ProfiledRun, expected: Expectation) -> Profile:
    """Read probes after the network has stopped.

    Parameters
    ----------
    probes : Probes
        What the runner offers; None is refused.
    run : ProfiledRun
        What passed while they were on.
    expected : Expectation
        What they are held against.

    Raises
    ------
    MeasurementError
        There are no probes; a reading is missing, no finite number, or in activity no count; or the time is not
        positive.
    """
    if probes is None:
        raise MeasurementError(
            "profile: the runner offers no probes after a run that was to be profiled; let it call "
            "cost.board.profiler.attach_probes(run_config, profile_steps) before the network starts, and offer as "
            f"`probes` what that returns ({manual_page('loihi2.md')})"
        )
    seconds = 1e-6 * run.steps * _mean(probes.time, "avg_time_per_step")
    if seconds <= 0:
        raise MeasurementError(f"avg_time_per_step: the run took {seconds} s, so the probe recorded nothing")
    powered = probes.power is not None
    return Profile(
        run,
        seconds,
        joules=seconds * _mean(probes.power, "total_power") if powered else None,
        static_joules=seconds * _mean(probes.power, "static_total_power") if powered else None,
        rail_watts={
            rail: _mean(probes.power, f"{rail}_power")
            for rail in RAILS
            if getattr(probes.power, f"{rail}_power", None) is not None
        },
        activity=read_core_activity(probes.activity),
        expected=expected,
        method=probes.method,
        scope=probes.scope,
    )


def _mean(logger: Any, name: str) -> float:
    """The mean of a reading, which may be one number."""
    reading = getattr(logger, name, None)
    if reading is None:
        raise MeasurementError(f"{name}: the profiler does not offer it")
    try:
        values = np.asarray(reading, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MeasurementError(f"{name}: expected numbers; the profiler gave {reading!r:.80}") from error
    if not values.size or not np.all(np.isfinite(values)):
        raise MeasurementError(
            f"{name}: expected finite numbers; the profiler gave {values.reshape(-1)[:5].tolist()}"
        )
    return float(values.mean())

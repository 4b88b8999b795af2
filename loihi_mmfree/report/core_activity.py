"""What a board counted, core by core, and what the placement expects of it.

The counts are those of Lava's activity profiler, `lava.utils.loihi2_profiler.Loihi2Activity`: after a run, arrays
with one element a core, summed over the steps of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loihi_mmfree.compiler.artifact import Net
from loihi_mmfree.compiler.place.traffic import traffic
from loihi_mmfree.errors import MeasurementError
from loihi_mmfree.report.quantity import Quantity
from loihi_mmfree.report.workload import count_workload
from loihi_mmfree.sim.activity_file import load_activity

INDICES = {"chip": "chip_idx", "core": "core_idx"}
"""Where a core is, and the attribute of the profiler."""

EVENTS = {
    "synaptic_operations": "syn_ops",
    "neuron_updates": "dendrite_updates",
    "messages_in": "spikes_in",
    "messages_out": "axon_out",
}
"""What is counted, and the attribute of the profiler.

Neuron updates are not neurons but passes of their programs, in every step: the picture in the published notebook
of sigma-delta neurons, whose program takes two passes, shows 2.02 +- 0.04 times neurons and steps on its cores,
and that of leaky neurons 2.0 to 2.4. Whether a message out that goes to several cores counts once is not known.
"""

_OPTIONAL = "chip_idx"
"""The published notebooks, which use one chip, do not read it."""


@dataclass(frozen=True)
class CoreActivity:
    """Events of every core over a run.

    Parameters
    ----------
    columns : mapping name -> tuple of int
        Those of `INDICES` and `EVENTS` that the profiler offered, with an element for each core.
    """

    columns: Mapping[str, tuple[int, ...]]

    @property
    def totals(self) -> dict[str, int]:
        """Events of all cores; of no core, none."""
        return {name: sum(self.columns[name]) for name in EVENTS if self.columns.get(name)}

    @property
    def flags(self) -> tuple[str, ...]:
        """What was not measured."""
        attributes = INDICES | EVENTS
        missing = [each for name, each in attributes.items() if name not in self.columns and each != _OPTIONAL]
        if missing:
            return (f"activity: Lava's profiler offers no {', '.join(missing)}, so these were not measured",)
        return () if self.columns["core"] else ("activity: Lava's profiler recorded no core",)


def read_core_activity(logger: Any) -> CoreActivity:
    """Read an activity profiler after the network has stopped.

    Parameters
    ----------
    logger : lava.utils.loihi2_profiler.Loihi2Activity
        What it lacks is left out, and flagged.

    Raises
    ------
    MeasurementError
        A reading is no list of counts, or they are not all of the same number of cores.
    """
    attributes = INDICES | EVENTS
    readings = {name: getattr(logger, attribute, None) for name, attribute in attributes.items()}
    columns = {
        name: _whole_numbers(reading, attributes[name])
        for name, reading in readings.items()
        if reading is not None
    }
    if len({len(column) for column in columns.values()}) > 1:
        found = ", ".join(f"{attributes[name]} {len(column)}" for name, column in columns.items())
        raise MeasurementError(f"the activity profiler gave a different number of cores: {found}")
    return CoreActivity(columns)


def _whole_numbers(reading: Any, attribute: str) -> tuple[int, ...]:
    try:
        values = np.asarray(reading, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MeasurementError(f"{attribute}: expected one count a core; found {reading!r:.80}") from error
    if values.ndim != 1:
        raise MeasurementError(f"{attribute}: expected one count a core; found an array of shape {values.shape}")
    wrong = values[~(np.isfinite(values) & (values >= 0) & (values == np.floor(values)))]
    if wrong.size:
        raise MeasurementError(f"{attribute}: expected whole numbers that are not negative; found {wrong[0]:g}")
    return tuple(int(value) for value in values)


@dataclass(frozen=True)
class ExpectedActivity:
    """What a token is to cause on the cores, by placement and recorded activity.

    Parameters
    ----------
    per_token : mapping name -> float
        `synaptic_operations`, `messages_in`, `messages_out` (each counted once) and `message_copies_out` (once for
        every core, or host, that it goes to).
    origin : str
        Of the recorded activity.
    tokens : int
        That it was recorded over.
    """

    per_token: Mapping[str, float]
    origin: str
    tokens: int

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: a quantity each."""
        inputs = {"activity": f"recorded: {self.origin}", "activity_tokens": self.tokens}
        return {
            name: Quantity(value, name.replace("_", " "), "measured", inputs).to_dict()
            for name, value in self.per_token.items()
        }


def expect_activity(net: Net) -> ExpectedActivity | None:
    """Return what the activity recorded for a network makes of its placement; None if none was recorded.

    Raises
    ------
    ArtifactError
        The recorded activity is damaged or of another network.
    """
    activity = load_activity(net.path, net.graph)
    if activity is None:
        return None
    system, placement = net.placed.chip, net.placed.placement
    moved = traffic(net.graph, system, placement, activity.rates)
    events = count_workload(net.graph, placement, activity, system, moved).events
    per_token = {
        "synaptic_operations": events.synaptic_operations,
        "messages_in": sum(core.received for core in moved.cores),
        "messages_out": moved.sent,
        "message_copies_out": sum(core.copies for core in moved.cores),
    }
    return ExpectedActivity(per_token, activity.origin, activity.tokens)

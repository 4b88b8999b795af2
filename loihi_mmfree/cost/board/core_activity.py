"""What a board counted, core by core.

The counts are those of Lava's activity profiler, `lava.utils.loihi2_profiler.Loihi2Activity`: after a run, arrays
with one element a core, summed over the steps of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loihi_mmfree.errors import MeasurementError

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

    def flags(self, chips: int, cores: int) -> tuple[str, ...]:
        """Return what was not measured, or cannot be told apart.

        Parameters
        ----------
        chips, cores : int
            That the placement uses.
        """
        found = (self._missing(), self._short_of(cores), self._ambiguous(chips))
        return tuple(f"activity: {flag}" for flag in found if flag)

    def _missing(self) -> str:
        attributes = INDICES | EVENTS
        missing = [each for name, each in attributes.items() if name not in self.columns and each != _OPTIONAL]
        return f"Lava's profiler offers no {', '.join(missing)}, so these were not measured" if missing else ""

    def _short_of(self, cores: int) -> str:
        recorded = len(next(iter(self.columns.values()), ()))
        if self.columns and not recorded:
            return "Lava's profiler recorded no core"
        if recorded and recorded < cores:
            return (
                f"Lava's profiler recorded {recorded} of the {cores} cores that the placement uses: "
                "what the others did is not counted"
            )
        return ""

    def _ambiguous(self, chips: int) -> str:
        if not self.columns.get("core"):
            return ""
        if "chip" not in self.columns and chips > 1:
            return (
                f"Lava's profiler offers no {_OPTIONAL}, and the placement uses {chips} chips: by_core does not "
                "tell cores of the same index apart"
            )
        where = list(zip(*(self.columns[name] for name in INDICES if name in self.columns), strict=True))
        if len(set(where)) < len(where):
            return "the same core occurs more than once: by_core does not tell which is which"
        return ""


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

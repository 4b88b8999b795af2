"""How far each uncertain parameter moves the results: each at its low and high end, the others as they are.

After each change the fitted parameters are fitted again: a model that no longer meets the published figures says
nothing. So the ends of a range are models that explain the published system equally well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loihi_mmfree.cost.fit import FITTED, fit
from loihi_mmfree.cost.model import PHASES, Prediction, predict
from loihi_mmfree.cost.parameters import ModelParameters
from loihi_mmfree.cost.workload import Workload

RESULT_UNITS = {"tokens_per_s": "tokens/s", "millijoules_per_token": "mJ"}
"""What is told of each end of a range, with its unit."""


@dataclass(frozen=True)
class Sensitivity:
    """Results with one parameter at the ends of its range.

    Parameters
    ----------
    name, unit, confidence : str
    low_value, high_value : float
    low, high : Prediction, optional
        None where the published figures cannot be met with that value.
    """

    name: str
    unit: str
    confidence: str
    low_value: float
    high_value: float
    low: Prediction | None
    high: Prediction | None

    def to_dict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return a JSON-ready description; `inputs` are those of the results."""
        return {
            "parameter": self.name,
            "unit": self.unit,
            "confidence": self.confidence,
            "source": "modelled",
            "inputs": {**inputs, "fitted_anew": list(FITTED)},
            "result_units": RESULT_UNITS,
            "low": {"value": self.low_value, "results": _results(self.low)},
            "high": {"value": self.high_value, "results": _results(self.high)},
        }


def _results(end: Prediction | None) -> dict[str, dict[str, float]] | None:
    if end is None:
        return None
    return {phase: {name: getattr(getattr(end, phase), name) for name in RESULT_UNITS} for phase in PHASES}


def sensitivity(workload: Workload, parameters: ModelParameters, reference: Workload) -> tuple[Sensitivity, ...]:
    """Return a row for every parameter that is not fitted.

    Parameters
    ----------
    workload : Workload
        Of the network in question.
    parameters : ModelParameters
    reference : Workload
        Of the published system, for the fit.
    """
    rows = []
    for name, each in parameters.named().items():
        if name in FITTED:
            continue
        ends = []
        for value in (each.low, each.high):
            fitted = _refit(reference, parameters, name, value)
            ends.append(None if fitted is None else predict(workload, fitted))
        rows.append(Sensitivity(name, each.unit, each.confidence, each.low, each.high, *ends))
    return tuple(rows)


def fitted_ranges(reference: Workload, parameters: ModelParameters) -> dict[str, tuple[float, float]]:
    """Return the least and greatest value of every fitted parameter over these changes."""
    fits = [fit(reference, parameters)]
    for name, each in parameters.named().items():
        if name not in FITTED:
            ends = (_refit(reference, parameters, name, value) for value in (each.low, each.high))
            fits += [fitted for fitted in ends if fitted is not None]
    values = {name: [fitted.named()[name].value for fitted in fits] for name in FITTED}
    return {name: (min(found), max(found)) for name, found in values.items()}


def _refit(reference: Workload, parameters: ModelParameters, name: str, value: float) -> ModelParameters | None:
    try:
        return fit(reference, parameters.with_values(**{name: value}))
    except ValueError:
        return None

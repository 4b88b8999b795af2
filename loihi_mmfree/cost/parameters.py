"""The parameters of the time and energy model: values with unit, source, confidence and range."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from loihi_mmfree.files import parse_toml
from loihi_mmfree.units import MICROSECONDS

CONFIDENCES = ("published", "inferred", "assumed", "fitted")
PARAMETERS_FILE = "loihi2_model.toml"
TIME_UNITS = {"ns": 1e-9, MICROSECONDS: 1e-6}
ENERGY_UNITS = {"pJ": 1e-12}


@dataclass(frozen=True)
class Parameter:
    """A number of the model.

    Parameters
    ----------
    value, low, high : float
        In `unit`; the range is that of the sensitivity table.
    unit : str
    confidence : {"published", "inferred", "assumed", "fitted"}
    source : str
    """

    value: float
    low: float
    high: float
    unit: str
    confidence: str
    source: str

    def __post_init__(self) -> None:
        if self.confidence not in CONFIDENCES:
            raise ValueError(f"confidence {self.confidence!r}: known are {', '.join(CONFIDENCES)}")
        if not 0 <= self.low <= self.value <= self.high:
            raise ValueError(f"value {self.value} is outside its range {self.low} to {self.high}")

    @property
    def si(self) -> float:
        """The value in seconds, joules, watts or as a plain number."""
        return self.value * {**TIME_UNITS, **ENERGY_UNITS}.get(self.unit, 1.0)

    def at(self, value: float) -> Parameter:
        """Return the parameter with another value, its range widened if need be."""
        return dataclasses.replace(self, value=value, low=min(self.low, value), high=max(self.high, value))


@dataclass(frozen=True)
class ModelParameters:
    """All parameters; what each means stands in the file beside it."""

    synaptic_operation_time: Parameter
    instruction_time: Parameter
    message_in_time: Parameter
    message_out_time: Parameter
    delivery_time: Parameter
    link_message_time: Parameter
    chip_message_time: Parameter
    barrier_single_chip: Parameter
    barrier_multi_chip: Parameter
    synaptic_operation_energy: Parameter
    instruction_energy: Parameter
    message_energy: Parameter
    hop_energy: Parameter
    chip_hop_energy: Parameter
    core_time_scale: Parameter
    dynamic_energy_scale: Parameter
    static_power: Parameter

    def named(self) -> dict[str, Parameter]:
        """Return the parameters by name."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}

    def with_values(self, **values: float) -> ModelParameters:
        """Return the parameters with other values of some."""
        named = self.named()
        return dataclasses.replace(self, **{name: named[name].at(value) for name, value in values.items()})


def read_toml(name: str) -> dict[str, Any]:
    """Read a TOML file that the package carries."""
    text = files("loihi_mmfree").joinpath("data").joinpath(name).read_text(encoding="utf-8")
    return parse_toml(text, name)


def load_parameters(data: Mapping[str, Any] | None = None) -> ModelParameters:
    """Return the parameters of the package, or those of a mapping of the same form.

    Raises
    ------
    ValueError
        A parameter is missing, unknown or outside its range.
    """
    data = read_toml(PARAMETERS_FILE) if data is None else data
    known = {each.name for each in dataclasses.fields(ModelParameters)}
    if wrong := sorted(known ^ data.keys()):
        raise ValueError(f"parameters of the model missing or unknown: {', '.join(wrong)}")
    return ModelParameters(**{name: Parameter(**fields) for name, fields in data.items()})

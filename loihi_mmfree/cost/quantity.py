"""A number and where it comes from. Nothing in a report is a bare number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SOURCES = ("measured", "modelled", "published", "formula held against RTL simulation", "assumed")


@dataclass(frozen=True)
class Quantity:
    """A number with unit and provenance.

    Parameters
    ----------
    value : float
    unit : str
    source : str
        One of `SOURCES`.
    inputs : mapping
        What a model was given, how something was measured, or the citation.
    """

    value: float
    unit: str
    source: str
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source {self.source!r}: known are {', '.join(SOURCES)}")
        if not self.inputs:
            raise ValueError("a quantity needs inputs: of the model, of the measurement, or the citation")

    def __str__(self) -> str:
        return f"{format_number(self.value)} {self.unit} ({self.source})"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return dataclasses.asdict(self)


def with_unit(number: str, unit: str) -> str:
    """Return a written number with its unit; a share and a plain factor, whose unit is 1, have none."""
    return number if unit == "1" else f"{number} {unit}"


def format_number(value: float) -> str:
    """Return a number with three significant digits, or all digits before the point where it has more."""
    if value == 0:
        return "0"
    if 999.5 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:#.3g}".removesuffix(".")

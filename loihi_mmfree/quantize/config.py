"""What the quantizer is asked to do: the width of every kind of value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loihi_mmfree.errors import UsageError
from loihi_mmfree.untrusted import short, some_of

# Smallest and largest value of each field.
LIMITS = {
    "activation_bits": (4, 16),
    "residual_bits": (8, 24),
    "preactivation_bits": (8, 24),
    "state_bits": (8, 24),
    "product_bits": (8, 24),
    "headroom_bits": (0, 4),
}


@dataclass(frozen=True)
class QuantizationConfig:
    """Widths in bits, sign included. The defaults lose nothing measurable (docs/fixed-point.md).

    Parameters
    ----------
    activation_bits : int
        Inputs of the ternary projections, 4 to 16. These are the graded spikes: fewer bits, fewer events.
    residual_bits : int
        The embedding output and the residual stream, 8 to 24.
    preactivation_bits : int
        Outputs of the projections before a nonlinearity, 8 to 24.
    state_bits : int
        The recurrent state and the swish of the input gate that feeds it, 8 to 24.
    product_bits : int
        Gated products (y, z) and the values whose squares a norm sums, 8 to 24.
    headroom_bits : int
        How many bits every saturating site keeps above its calibrated maximum, 0 to 4. Inputs of
        projections keep none: they take the format with the least squared error, which may clip a few.

    Raises
    ------
    UsageError
        A value is not a whole number within its limits.
    """

    activation_bits: int = 12
    residual_bits: int = 16
    preactivation_bits: int = 16
    state_bits: int = 16
    product_bits: int = 16
    headroom_bits: int = 1

    def __post_init__(self) -> None:
        for name, (smallest, largest) in LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
                raise UsageError(
                    f"quantization: {name} is {short(value)}; allowed: whole numbers from {smallest} to {largest}"
                )

    def to_dict(self) -> dict[str, int]:
        """Return the fields as a plain dict, as config.toml stores them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QuantizationConfig:
        """Read the fields back; missing ones take their defaults.

        Raises
        ------
        UsageError
            A key is unknown or a value is out of its limits.
        """
        if not isinstance(values, Mapping):
            raise UsageError(f"quantization is {short(values)}; it must be a table of {', '.join(LIMITS)}")
        unknown = sorted(values.keys() - LIMITS.keys())
        if unknown:
            raise UsageError(f"quantization: unknown {some_of(unknown)}; allowed: {', '.join(LIMITS)}")
        return cls(**values)

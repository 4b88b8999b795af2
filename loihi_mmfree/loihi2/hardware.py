"""What Loihi 2 allows: every number with its unit, source and confidence. Nothing else states a limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Confidence = Literal["published", "inferred", "assumed"]


@dataclass(frozen=True)
class Figure:
    """A number about the chip."""

    value: int
    unit: str
    source: str
    confidence: Confidence


@dataclass(frozen=True)
class ChipSpec:
    """The limits that the arithmetic and the graph of a network must keep."""

    name: str
    message_bits: Figure
    accumulator_bits: Figure
    state_bits: Figure
    register_bits: Figure
    synapse_delay: Figure


LOIHI2 = ChipSpec(
    name="loihi2",
    message_bits=Figure(24, "bit", "lava-nc 0.10.0, lava.proc.dense num_message_bits", "published"),
    accumulator_bits=Figure(24, "bit", "lava-nc 0.10.0, lava.proc.dense bit widths", "published"),
    state_bits=Figure(24, "bit", "lava-nc 0.10.0, lava.proc.lif fixed-point state", "published"),
    register_bits=Figure(
        40, "bit", "a 24-bit accumulator times a 15-bit multiplier; the width itself is not public", "assumed"
    ),
    synapse_delay=Figure(63, "time step", "lava-nc 0.10.0, lava.proc.dense DelayDense", "published"),
)

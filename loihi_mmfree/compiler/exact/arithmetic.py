"""The arithmetic of docs/fixed-point.md on whole numbers in float64, which holds all of them: none has 53 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loihi_mmfree.compiler.programs import EXPONENT_OFFSET, GATE_GUARD_BITS
from loihi_mmfree.fixedpoint import tables
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.quantize.quantizers import RoundHalfUp

_ONE = 1 << tables.SIGMOID_FRACTION_BITS
_EXPONENT_BIAS, _FRACTION_BITS = 1023, 52
"""Of a float64."""
_half_up = RoundHalfUp()


class _Exactly(torch.autograd.Function):
    """One value for what follows, another one for the gradient."""

    @staticmethod
    def forward(ctx: Any, smooth: Tensor, exact: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def exactly(smooth: Tensor, exact: Tensor) -> Tensor:
    """Return `exact`; its gradient is that of `smooth`, the same quantity without rounding."""
    result: Tensor = _Exactly.apply(smooth, exact)
    return result


@dataclass(frozen=True)
class Fixed:
    """Values on the grid of a format.

    Parameters
    ----------
    real : float64 tensor
        Whole multiples of the format's unit.
    format : QFormat
    """

    real: Tensor
    format: QFormat

    @property
    def units(self) -> Tensor:
        """The integers, as float64, outside the graph of gradients."""
        return self.real.detach() / self.format.scale


def rounding_shift(n: Tensor, shift: int | Tensor) -> Tensor:
    """Return rsh(n, shift); a negative shift goes to the left."""
    return _half_up(n * (_power_of_two(-shift) if isinstance(shift, Tensor) else 2.0**-shift))


def _power_of_two(exponent: Tensor) -> Tensor:
    """Return 2**exponent of whole numbers, written into the bits: the pow of a GPU need not be exact."""
    return ((exponent.to(torch.int64) + _EXPONENT_BIAS) << _FRACTION_BITS).view(torch.float64)


def lerp(weight: Tensor, at_one: Tensor | float, at_zero: Tensor | float, bits: int) -> Tensor:
    """Return lerp(w, a, c, bits)."""
    return rounding_shift(weight * at_one + (2.0**bits - weight) * at_zero, bits)


def sigmoid(x: Fixed) -> Tensor:
    """Return the sigmoid in units of 2**-15."""
    units, frac = x.units, x.format.frac
    if frac < tables.SIGMOID_SEGMENT_BITS:
        units, frac = units * 2.0 ** (tables.SIGMOID_SEGMENT_BITS - frac), tables.SIGMOID_SEGMENT_BITS
    last = 2.0 ** (tables.SIGMOID_DOMAIN_BITS + frac) - 1
    table = torch.as_tensor(tables.sigmoid_table(), dtype=torch.float64, device=units.device)
    upper = _interpolated(table, units.abs().clamp(max=last), frac - tables.SIGMOID_SEGMENT_BITS)
    return torch.where(units >= 0, upper, _ONE - upper)


def swish(x: Fixed) -> tuple[Tensor, int]:
    """Return x * sigmoid(x) and its fractional bits, four more than those of x."""
    product = rounding_shift(x.units * sigmoid(x), tables.SIGMOID_FRACTION_BITS - GATE_GUARD_BITS)
    return product, x.format.frac + GATE_GUARD_BITS


def inverse_root(total: Tensor) -> tuple[Tensor, Tensor]:
    """Return mantissa and exponent of 1 / sqrt(total) for whole numbers of at least 0; 0 and 0 for 0."""
    bits, segment = tables.RSQRT_MANTISSA_BITS, tables.RSQRT_SEGMENT_BITS
    length = torch.frexp(total)[1].to(torch.float64)
    excess = length - bits
    exponent = excess + excess.remainder(2)
    mantissa = rounding_shift(total, exponent).clamp(2.0 ** (bits - 2), 2.0**bits - 1)
    table = torch.as_tensor(tables.rsqrt_table(), dtype=torch.float64, device=total.device)
    root = _interpolated(table, mantissa, segment, tables.rsqrt_first_segment())
    present = total > 0
    halved = rounding_shift(exponent, 1) + EXPONENT_OFFSET
    return torch.where(present, root, 0.0), torch.where(present, halved, 0.0)


def _interpolated(table: Tensor, position: Tensor, segment: int, first: int = 0) -> Tensor:
    """Read a table between entries: `segment` low bits of the position are the weight of the next one."""
    number = torch.floor(position * 2.0**-segment)
    rest = position - number * 2.0**segment
    index = number.to(torch.int64) - first
    if segment == 0:
        return table[index]
    return lerp(rest, table[index + 1], table[index], segment)

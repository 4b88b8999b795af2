"""Where to clip: the power-of-two format with the least squared error over calibration data.

The data is summarised by octave, so that it can come in batches and need not be kept: a power-of-two
format ends at an octave's border, hence the sums of an octave give the error of clipping it exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from loihi_mmfree.fixedpoint.qformat import QFormat

# Octave e holds magnitudes from 2**(e - 1) up to 2**e; smaller and larger ones count to the outermost.
SMALLEST_OCTAVE, LARGEST_OCTAVE = -63, 64
OCTAVES = LARGEST_OCTAVE - SMALLEST_OCTAVE + 1


def octave_sums(values: Tensor) -> Tensor:
    """Return the number, the sum of magnitudes and the sum of squares in each octave: float64 [3, OCTAVES]."""
    magnitudes = values.detach().flatten().abs().double()
    # A zero has no octave; it is exact in every format, as if it were infinitely small.
    exponents = torch.where(magnitudes > 0, torch.frexp(magnitudes).exponent, SMALLEST_OCTAVE)
    octaves = exponents.clamp(SMALLEST_OCTAVE, LARGEST_OCTAVE) - SMALLEST_OCTAVE
    powers = (torch.ones_like(magnitudes), magnitudes, magnitudes.square())
    return torch.stack([torch.bincount(octaves, power, minlength=OCTAVES) for power in powers])


def least_squares_format(sums: Tensor, covering: QFormat) -> QFormat:
    """Return the format with the least squared error among those as wide, at equal error the coarsest.

    Parameters
    ----------
    sums : Tensor, float64 [3, OCTAVES]
        Sum of `octave_sums` over the data.
    covering : QFormat
        The finest format that clips nothing; a coarser one is never better.
    """
    candidates = [QFormat(covering.bits, covering.frac + finer) for finer in range(covering.bits)]
    return min(candidates, key=lambda candidate: squared_error(candidate, sums))


def squared_error(qformat: QFormat, sums: Tensor) -> float:
    """Return the summed squared error of quantizing data, from its octave sums.

    Clipped values count exactly, those below half a unit too (they become zero); in between the error is
    taken to be uniform over a unit.
    """
    # The first octaves that are not zeroed, and that are clipped: from half a unit up, and from the end up.
    rounded = min(max(-qformat.frac - SMALLEST_OCTAVE, 0), OCTAVES)
    clipped = min(max(qformat.bits - qformat.frac - SMALLEST_OCTAVE, 0), OCTAVES)
    count, magnitude, square = sums
    rounding = count[rounded:clipped].sum() * qformat.scale**2 / 12
    end = qformat.max_value
    clipping = square[clipped:].sum() - 2 * end * magnitude[clipped:].sum() + end**2 * count[clipped:].sum()
    return float(square[:rounded].sum() + rounding + clipping)

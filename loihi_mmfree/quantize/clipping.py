"""Where to clip: the format with the least squared error over calibration data.

The data is kept as a histogram of magnitudes, so that it can come in batches. A bin is what shares the
leading bits of a float32, exponent and first four bits of the fraction: 16 bins an octave, any size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from loihi_mmfree.fixedpoint.qformat import SIXTEENTHS, QFormat

# A float32 without its sign has 31 bits; the leading 12 name its bin.
DROPPED_BITS = 19
BINS = 1 << (31 - DROPPED_BITS)


def magnitude_histogram(values: Tensor) -> Tensor:
    """Return how many values fall in each bin: int64 [BINS]."""
    patterns = values.detach().float().contiguous().view(torch.int32).flatten()
    return torch.bincount((patterns & 0x7FFFFFFF) >> DROPPED_BITS, minlength=BINS)


def covered_magnitude(histogram: Tensor, share: float) -> float:
    """Return the least magnitude, to a sixteenth of an octave, that so large a share of the data does not exceed.

    Parameters
    ----------
    histogram : Tensor, int64 [BINS]
        Sum of `magnitude_histogram` over the data, all of it finite.
    share : float
        0 to 1.
    """
    counts = histogram.cpu()
    total = int(counts.sum())
    last = int(torch.searchsorted(counts.cumsum(0), torch.tensor(math.ceil(share * total))))
    # The upper end of the bin: the pattern of its last float32.
    pattern = ((min(last, BINS - 1) + 1) << DROPPED_BITS) - 1
    return float(torch.tensor(pattern, dtype=torch.int32).view(torch.float32)) if share > 0 and total else 0.0


def least_squares_format(histogram: Tensor, covering: QFormat, fine: bool = False, lean: float = 0.0) -> QFormat:
    """Return the format with the least squared error among those as wide, at equal error the coarsest.

    Parameters
    ----------
    histogram : Tensor, int64 [BINS]
        Sum of `magnitude_histogram` over the data, all of it finite.
    covering : QFormat
        The finest format that clips nothing; a coarser one is never better.
    fine : bool
        The unit may be any sixteenth of a power of two, within an octave of the best power of two.
    lean : float
        By so large a share of the error a coarser unit goes before the next finer one.
    """

    def least(candidates: list[QFormat]) -> QFormat:
        errors = [squared_error(each, histogram) * (1 + lean) ** number for number, each in enumerate(candidates)]
        return candidates[errors.index(min(errors))]

    best = least([QFormat(covering.bits, covering.frac + finer) for finer in range(covering.bits)])
    if not fine:
        return best
    units = [(best.frac, sixteenths) for sixteenths in reversed(range(SIXTEENTHS, 2 * SIXTEENTHS))]
    units += [(best.frac + 1, sixteenths) for _, sixteenths in units]
    return least([QFormat(covering.bits, *unit) for unit in units])


def squared_error(qformat: QFormat, histogram: Tensor) -> float:
    """Return the summed squared error of quantizing data, estimated from its histogram.

    Every value counts as the centre of its bin. Beyond the end of the range the error is the distance to
    it, below half a unit the value itself; in between it is taken to be uniform over a unit.
    """
    occupied = histogram.nonzero().flatten().cpu()
    count = histogram.cpu()[occupied].double()
    half_a_bin = 1 << (DROPPED_BITS - 1)
    centre = ((occupied << DROPPED_BITS) + half_a_bin).to(torch.int32).view(torch.float32).double()
    error = torch.full_like(centre, qformat.scale**2 / 12)
    error = torch.where(centre < qformat.scale / 2, centre.square(), error)
    error = torch.where(centre > qformat.max_value, (centre - qformat.max_value).square(), error)
    return float((count * error).sum())

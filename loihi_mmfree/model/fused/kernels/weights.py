"""Kernels of the ternary codes of a matrix."""

from __future__ import annotations

import triton
import triton.language as tl

from loihi_mmfree.model.fused.kernels.rows import rounded


@triton.jit
def sum_magnitudes(weight, sums, size, span, block: tl.constexpr):
    """The sum of magnitudes of each span of a matrix, in float64."""
    first = tl.program_id(0).to(tl.int64) * span
    total = tl.zeros([block], tl.float64)
    for begin in range(0, span, block):
        place = first + begin + tl.arange(0, block)
        inside = (place < size) & (place < first + span)
        total += tl.abs(tl.load(weight + place, mask=inside, other=0).to(tl.float32)).to(tl.float64)
    tl.store(sums + tl.program_id(0), tl.sum(total, 0))


@triton.jit
def ternarise(weight, sums, codes, scale, size, spans: tl.constexpr, smallest: tl.constexpr, block: tl.constexpr):
    """Codes of a part of a matrix, in units of the mean magnitude of all of it."""
    magnitude = (tl.sum(tl.load(sums + tl.arange(0, spans)), 0) / size).to(tl.float32)
    # What is not a number must not end here.
    steps = tl.div_rn(1.0, tl.maximum(magnitude, smallest, propagate_nan=tl.PropagateNan.ALL))
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < size
    scaled = tl.load(weight + place, mask=inside, other=0).to(tl.float32) * steps
    found = rounded(tl.minimum(tl.maximum(scaled, -1.0), 1.0))
    tl.store(codes + place, found.to(codes.dtype.element_ty), mask=inside)
    if tl.program_id(0) == 0:
        tl.store(scale, tl.div_rn(1.0, steps))

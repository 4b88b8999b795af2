"""Kernels of the ternary codes of up to four matrices at once."""

from __future__ import annotations

import triton
import triton.language as tl

from loihi_mmfree.model.fused.kernels.rows import rounded


@triton.jit
def _pick(number, of_0, of_1, of_2, of_3):
    picked = of_0
    if number == 1:
        picked = of_1
    elif number == 2:
        picked = of_2
    elif number == 3:
        picked = of_3
    return picked


@triton.jit
def sum_magnitudes(
    weight_0, weight_1, weight_2, weight_3, size_0, size_1, size_2, size_3, sums,
    spans: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """The sum of magnitudes of each span of each matrix, in float64 [matrices, spans]."""
    number = tl.program_id(1)
    weight = _pick(number, weight_0, weight_1, weight_2, weight_3)
    size = _pick(number, size_0, size_1, size_2, size_3)
    span = tl.cdiv(tl.cdiv(size, spans), block) * block
    first = tl.program_id(0).to(tl.int64) * span
    total = tl.zeros([block], tl.float64)
    for begin in range(0, span, block):
        place = first + begin + tl.arange(0, block)
        total += tl.abs(tl.load(weight + place, mask=place < size, other=0).to(tl.float32)).to(tl.float64)
    tl.store(sums + number * spans + tl.program_id(0), tl.sum(total, 0))


@triton.jit
def ternarise(
    weight_0, weight_1, weight_2, weight_3, size_0, size_1, size_2, size_3, sums,
    codes_0, codes_1, codes_2, codes_3, scales,
    spans: tl.constexpr, smallest: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Codes of a part of each matrix, in units of the mean magnitude of all of it, and what such a unit is."""
    number = tl.program_id(1)
    weight = _pick(number, weight_0, weight_1, weight_2, weight_3)
    size = _pick(number, size_0, size_1, size_2, size_3)
    codes = _pick(number, codes_0, codes_1, codes_2, codes_3)
    total = tl.sum(tl.load(sums + number * spans + tl.arange(0, spans)), 0)
    magnitude = (total / size).to(tl.float32)
    # What is not a number must not end here.
    steps = tl.div_rn(1.0, tl.maximum(magnitude, smallest, propagate_nan=tl.PropagateNan.ALL))
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < size
    scaled = tl.load(weight + place, mask=inside, other=0).to(tl.float32) * steps
    found = rounded(tl.minimum(tl.maximum(scaled, -1.0), 1.0))
    tl.store(codes + place, found.to(codes.dtype.element_ty), mask=inside)
    if tl.program_id(0) == 0:
        tl.store(scales + number, tl.div_rn(1.0, steps))

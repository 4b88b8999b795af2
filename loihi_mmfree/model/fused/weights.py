"""Ternary matrices as the products take them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from loihi_mmfree.model.fused.kernels import weights as kernels
from loihi_mmfree.model.fused.products import CODES
from loihi_mmfree.model.fused.sizes import EXACT, SMALLEST_MAGNITUDE

_MOST_SPANS = 512
_BLOCK = 1024


class Ternary(NamedTuple):
    """Codes of bfloat16 [outputs, inputs] and their scale, float32 []."""

    codes: Tensor
    scale: Tensor


def ternarise(weight: Tensor) -> Ternary:
    """Return the codes and the scale that `ternary.quantize_weight` gives, without a gradient."""
    weight = weight.contiguous()
    size = weight.numel()
    spans = min(_MOST_SPANS, triton.next_power_of_2(triton.cdiv(size, _BLOCK)))
    span = triton.cdiv(triton.cdiv(size, spans), _BLOCK) * _BLOCK
    sums = torch.empty(spans, dtype=torch.float64, device=weight.device)
    codes = torch.empty_like(weight, dtype=CODES)
    scale = torch.empty((), dtype=torch.float32, device=weight.device)
    sizes = {"spans": spans, "smallest": SMALLEST_MAGNITUDE, "block": 4 * _BLOCK}
    with torch.cuda.device_of(weight):
        kernels.sum_magnitudes[(spans,)](weight, sums, size, span, block=_BLOCK)
        kernels.ternarise[(triton.cdiv(size, 4 * _BLOCK),)](weight, sums, codes, scale, size, **sizes, **EXACT)
    return Ternary(codes, scale)

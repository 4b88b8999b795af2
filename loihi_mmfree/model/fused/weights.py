"""Ternary matrices as the products take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from loihi_mmfree.checkpoint import BIT_LINEAR_SMALLEST
from loihi_mmfree.model.fused.kernels import weights as kernels
from loihi_mmfree.model.fused.products import CODES
from loihi_mmfree.model.fused.sizes import EXACT

_TOGETHER = 4
_MOST_SPANS = 512
_BLOCK = 1024


class Ternary(NamedTuple):
    """Codes of bfloat16 [outputs, inputs] and their scale, float32 []."""

    codes: Tensor
    scale: Tensor


def ternarise(weight: Tensor) -> Ternary:
    """Return the codes and the scale that `ternary.quantize_weight` gives, without a gradient."""
    with torch.cuda.device_of(weight):
        return ternarise_all([weight], [None])[0][0]


def ternarise_all(
    weights: Sequence[Tensor], known: Sequence[Ternary | None], sums: Tensor | None = None
) -> tuple[list[Ternary], Tensor]:
    """Return what `ternarise` gives of several matrices, in two launches, or with the sums in one.

    Parameters
    ----------
    weights : sequence of Tensor [outputs, inputs]
        At most four.
    known : sequence of Ternary or None
        Those that need not be computed.
    sums : Tensor or None
        What an earlier call with the same weights returned beside them.
    """
    wanted = [weight.contiguous() for weight, ready in zip(weights, known, strict=True) if ready is None]
    codes = [torch.empty_like(weight, dtype=CODES) for weight in wanted]
    device = weights[0].device
    scales = torch.empty(len(wanted), dtype=torch.float32, device=device)
    if not wanted:
        return [ready for ready in known if ready is not None], scales
    largest = max(weight.numel() for weight in wanted)
    spans = min(_MOST_SPANS, triton.next_power_of_2(triton.cdiv(largest, _BLOCK)))
    given = *_filled(wanted), *_filled([weight.numel() for weight in wanted])
    if sums is None:
        sums = torch.empty((len(wanted), spans), dtype=torch.float64, device=device)
        kernels.sum_magnitudes[(spans, len(wanted))](*given, sums, spans=spans, block=_BLOCK)
    sizes = {"spans": spans, "smallest": BIT_LINEAR_SMALLEST, "block": 4 * _BLOCK}
    grid = triton.cdiv(largest, 4 * _BLOCK), len(wanted)
    kernels.ternarise[grid](*given, sums, *_filled(codes), scales, **sizes, **EXACT)
    found = map(Ternary, codes, scales)
    return [ready or next(found) for ready in known], sums


def _filled(values: list[Tensor] | list[int]) -> list[Tensor | int]:
    """As many as the kernels take."""
    return [*values, *[values[0]] * (_TOGETHER - len(values))]

"""A whole BitLinear as one function with a gradient: for one that stands alone, as the head does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from loihi_mmfree.model.fused.inputs import of_sums, quantize, quantize_backward, rows_of
from loihi_mmfree.model.fused.products import Scaled, multiply, of_weight, through_weight, working_type
from loihi_mmfree.model.fused.weights import Ternary, ternarise


def bit_linear(x: Tensor, gain: Tensor, weight: Tensor, frozen: Ternary | None) -> Tensor:
    """Map x [..., inputs] to float32 [..., outputs] as `ternary.BitLinear` does.

    Parameters
    ----------
    x : Tensor [..., inputs]
    gain : Tensor [inputs]
    weight : Tensor [outputs, inputs]
    frozen : Ternary or None
        The weight's codes, if they are known.
    """
    keep = torch.is_grad_enabled() and any(each.requires_grad for each in (x, gain, weight))
    with torch.cuda.device_of(x):
        return _BitLinear.apply(x, gain, weight, frozen, keep)


class _BitLinear(torch.autograd.Function):
    """Keeps x, the scales of its rows and their roots; codes are computed again in the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, weight: Tensor, frozen: Ternary | None, keep: bool) -> Tensor:
        dtype = working_type(x.device)
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        found = quantize(rows, gain[None].float(), keep=dtype if keep else None)
        codes, scale = frozen or ternarise(weight)
        sums = multiply(found.codes[0], codes, dtype)
        if keep:
            ctx.save_for_backward(rows, gain, weight, found.scales, found.inverse)
            ctx.frozen, ctx.dtype, ctx.shape = frozen, dtype, x.shape
        return rows_of(Scaled(sums, found.scales[0], scale)).view(*x.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        rows, gain, weight, scales, inverse = ctx.saved_tensors
        codes, scale = ctx.frozen or ternarise(weight)
        gradient = of_sums(outer.reshape(-1, len(weight)), scales[0], ctx.dtype)
        of_codes = through_weight(gradient, codes)[None]
        found = quantize_backward(rows, gain[None].float(), scales, inverse, scale[None], of_codes)
        of_codes_of_weight = None if ctx.frozen else of_weight(gradient, found.codes[0])
        return found.rows.view(ctx.shape), found.gains[0], of_codes_of_weight, None, None

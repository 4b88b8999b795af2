"""A norm that stands alone as one function with a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from loihi_mmfree.model.fused.kernels import norm as kernels
from loihi_mmfree.model.fused.sizes import EXACT, WALKED, parts_of, row_sizes


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """Map x [..., width] to float32 [..., width] as `ternary.RMSNorm` does."""
    with torch.cuda.device_of(x):
        return _RMSNorm.apply(x, gain, eps)


class _RMSNorm(torch.autograd.Function):
    """Keeps x and a number of every row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        out = torch.empty_like(rows, dtype=torch.float32)
        inverse = torch.empty(len(rows), dtype=torch.float32, device=x.device)
        width = x.shape[-1]
        kernels.rms_norm[(len(rows),)](rows, gain, out, inverse, width, eps, **row_sizes(width), **EXACT)
        ctx.save_for_backward(rows, gain, inverse)
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        rows, gain, inverse = ctx.saved_tensors
        parts, width = parts_of(len(rows)), rows.shape[-1]
        of_rows = torch.empty_like(rows, dtype=torch.float32)
        of_gain = torch.empty((parts, width), dtype=torch.float32, device=rows.device)
        kernels.rms_norm_backward[(parts,)](
            rows, gain, inverse, outer.contiguous(), of_rows, of_gain, len(rows), width,
            walked=WALKED, **row_sizes(width), **EXACT,
        )  # fmt: skip
        return of_rows.view(outer.shape), of_gain.sum(0), None

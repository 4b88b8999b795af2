"""The cross-entropy of some rows of logits."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from loihi_mmfree.model.fused.kernels import loss as kernels

_BLOCK = 4096


def cross_entropy(
    sums: Tensor, scales: Tensor, scale: Tensor, targets: Tensor, ignored: int, gradient: bool
) -> Tensor:
    """Return the losses of float32 [N] of logits `sums * (scales * scale)`.

    Parameters
    ----------
    sums : Tensor [N, V]
        Their gradient, times the scale of the row, takes their place if it is asked for.
    scales : Tensor of float32 [N]
    scale : Tensor of float32 []
    targets : Tensor of int64 [N]
    ignored : int
        The target of a row that has no loss.
    gradient : bool
    """
    rows, width = sums.shape
    losses = torch.empty(rows, dtype=torch.float32, device=sums.device)
    block = min(_BLOCK, max(16, triton.next_power_of_2(width)))
    options = {"ignored": ignored, "gradient": gradient, "block": block, "num_warps": 8}
    with torch.cuda.device_of(sums):
        kernels.cross_entropy[(rows,)](sums, scales, scale, targets, losses, width, **options)
    return losses

"""The loss of a text through the ternary head, of which not all logits are ever held."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor
from torch.autograd.function import once_differentiable

from loihi_mmfree.model.fused.availability import fused_for
from loihi_mmfree.model.fused.products import multiply, of_weight, through_weight, working_type
from loihi_mmfree.model.ternary import BitLinear, quantize_activations

IGNORED = -100
"""The label of a place where nothing is to be predicted, as PyTorch and transformers have it."""
CHUNK_BYTES = 1 << 27
"""Of the logits that are held at once."""


def next_token_loss(head: BitLinear, hidden: Tensor, labels: Tensor, count: int | Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of every next token.

    Parameters
    ----------
    head : BitLinear
        H to V.
    hidden : Tensor [B, T, H]
        What it reads.
    labels : Tensor of int [B, T]
        The tokens themselves, with `IGNORED` where they are not to be predicted.
    count : int, Tensor [] or None
        What the sum is divided by; None is the number of tokens predicted.

    Returns
    -------
    Tensor of float32 []
    """
    following = F.pad(labels, (0, 1), value=IGNORED)[:, 1:].flatten().to(hidden.device)
    total = (following != IGNORED).sum() if count is None else count
    normed = head.norm(hidden.flatten(0, 1))
    keep = torch.is_grad_enabled() and (normed.requires_grad or head.weight.requires_grad)
    return _SummedLoss.apply(normed, head.weight, head.codes(), following, keep) / total


class _SummedLoss(torch.autograd.Function):
    """The sum of all losses, from what the head's norm gives [N, H].

    The gradient is computed with the loss, while the logits of a chunk are there, and kept in their place.
    """

    @staticmethod
    def forward(
        ctx: Any, normed: Tensor, weight: Tensor, ternary: tuple[Tensor, Tensor], targets: Tensor, keep: bool
    ) -> Tensor:
        dtype = working_type(normed.device)
        activations, scales = quantize_activations(normed)
        codes, scale = ternary
        activations = activations.to(codes.dtype)
        of_normed = torch.empty_like(normed) if keep else None
        of_codes = torch.zeros_like(weight, dtype=torch.float32) if keep else None
        total = torch.zeros((), dtype=torch.float64, device=normed.device)
        rows = max(1, CHUNK_BYTES // (len(weight) * dtype.itemsize))
        for first in range(0, len(normed), rows):
            place = slice(first, first + rows)
            sums = multiply(activations[place], codes, dtype)
            total += _losses(sums, scales[place, 0], scale, targets[place], keep).sum(dtype=torch.float64)
            if of_normed is not None and of_codes is not None:
                # The sums are their gradient now, times the scale of the row, which cancels in that of `normed`.
                of_normed[place] = through_weight(sums, codes) * (scale / scales[place])
                of_codes += of_weight(sums, activations[place])
        ctx.save_for_backward(of_normed, of_codes)
        return total.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        of_normed, of_weight = ctx.saved_tensors
        return of_normed * outer, of_weight * outer, None, None, None


def _losses(sums: Tensor, scales: Tensor, scale: Tensor, targets: Tensor, gradient: bool) -> Tensor:
    """Do what `fused.loss.cross_entropy` does."""
    if fused_for(sums):
        from loihi_mmfree.model.fused.loss import cross_entropy

        return cross_entropy(sums, scales.contiguous(), scale, targets, IGNORED, gradient)
    known = targets != IGNORED
    place = targets.where(known, 0)[:, None]
    logits = sums.float() * (scales * scale)[:, None]
    normaliser = logits.logsumexp(-1, keepdim=True)
    losses = (normaliser - logits.gather(-1, place))[:, 0] * known
    if gradient:
        logits.sub_(normaliser).exp_().scatter_add_(-1, place, torch.full_like(normaliser, -1.0))
        sums.copy_(logits.mul_((scales * known)[:, None]))
    return losses

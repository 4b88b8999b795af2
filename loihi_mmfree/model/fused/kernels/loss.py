"""Kernel of the cross-entropy of a row of logits, and its gradient."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def cross_entropy(
    sums, row_scales, scale, targets, losses, width, ignored: tl.constexpr, gradient: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """The loss of a row; its gradient by the sums, times the scale of the row, takes the place of the sums."""
    row = tl.program_id(0).to(tl.int64)
    sums += row * width
    target = tl.load(targets + row)
    row_scale = tl.load(row_scales + row)
    factor = row_scale * tl.load(scale)
    largest = tl.full((), float("-inf"), tl.float32)
    total = tl.zeros((), tl.float32)
    for begin in range(0, width, block):
        column = begin + tl.arange(0, block)
        logits = tl.load(sums + column, mask=column < width, other=float("-inf")).to(tl.float32) * factor
        before, largest = largest, tl.maximum(largest, tl.max(logits, 0))
        total = total * tl.exp(before - largest) + tl.sum(tl.exp(logits - largest), 0)
    normaliser = largest + tl.log(total)
    known = target != ignored
    own = tl.load(sums + tl.where(known, target, 0)).to(tl.float32) * factor
    tl.store(losses + row, tl.where(known, normaliser - own, 0.0))
    if gradient:
        weight = tl.where(known, row_scale, 0.0)
        for begin in range(0, width, block):
            column = begin + tl.arange(0, block)
            inside = column < width
            logits = tl.load(sums + column, mask=inside, other=0).to(tl.float32) * factor
            found = (tl.exp(logits - normaliser) - tl.where(column == target, 1.0, 0.0)) * weight
            tl.store(sums + column, found.to(sums.dtype.element_ty), mask=inside)

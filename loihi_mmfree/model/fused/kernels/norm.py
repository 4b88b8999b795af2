"""Kernels of a norm that stands alone."""

from __future__ import annotations

import triton
import triton.language as tl

from loihi_mmfree.model.fused.kernels.rows import inverse_rms, through_norm


@triton.jit
def rms_norm(x, gain, out, inverse, width, eps, block: tl.constexpr):
    """A row divided by its root mean square, times a gain."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, block)
    inside = column < width
    values = tl.load(x + row * width + column, mask=inside, other=0).to(tl.float32)
    found = inverse_rms(values, width, eps)
    gains = tl.load(gain + column, mask=inside, other=0).to(tl.float32)
    tl.store(out + row * width + column, values * found * gains, mask=inside)
    tl.store(inverse + row, found)


@triton.jit
def rms_norm_backward(
    x, gain, inverse, outer, of_x, of_gain, rows, width, walked: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    """The gradients of a row and, summed up over the rows of a program, of the gain."""
    column = tl.arange(0, block)
    inside = column < width
    gains = tl.load(gain + column, mask=inside, other=0).to(tl.float32)
    of_gains = tl.zeros([block], tl.float32)
    part = tl.program_id(0).to(tl.int64)
    for row in range(part * walked, tl.minimum((part + 1) * walked, rows)):
        found = tl.load(inverse + row)
        normed = tl.load(x + row * width + column, mask=inside, other=0).to(tl.float32) * found
        of_row = tl.load(outer + row * width + column, mask=inside, other=0).to(tl.float32)
        of_gains += of_row * normed
        tl.store(of_x + row * width + column, through_norm(of_row * gains, normed, found, width), mask=inside)
    tl.store(of_gain + part * width + column, of_gains, mask=inside)

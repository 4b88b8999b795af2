"""What a program does to a row that it holds: norm, rounding, gates, and their gradients.

The last bit can decide what a number is rounded to. So arithmetic is that of PyTorch on a GPU, operation by
operation: who calls it switches off the fusion of products and sums, division is rounded to nearest, and the
exponential is CUDA's.
"""

from __future__ import annotations

import os

import triton
import triton.language as tl
from triton.language.extra import libdevice

if os.environ.get("TRITON_INTERPRET") == "1":
    # The interpreter has NumPy's exponential only.
    @triton.jit
    def exponential(x):
        """Return exp(x)."""
        return tl.exp(x)
else:

    @triton.jit
    def exponential(x):
        """Return exp(x) as CUDA computes it; Triton's own is another approximation."""
        return libdevice.exp(x)


@triton.jit
def inverse_rms(x, width, eps):
    """Return the reciprocal root of the mean square of a row."""
    mean_square = (tl.sum((x * x).to(tl.float64), 0) / width).to(tl.float32)
    return tl.div_rn(1.0, tl.sqrt_rn(mean_square + eps))


@triton.jit
def scale_of(z, smallest: tl.constexpr):
    """Return what a step of an int8 code of the row means, and its reciprocal, which is the first computed."""
    # PyTorch divides a number by a tensor as that number times the reciprocal.
    steps = 127.0 * tl.div_rn(1.0, tl.maximum(tl.max(tl.abs(z), 0), smallest))
    return tl.div_rn(1.0, steps), steps


@triton.jit
def rounded(x):
    """Return the nearest whole number, half to even, of what is below 2**22; what is not a number stays so."""
    # Above 2**23 there are whole numbers only.
    return (x + 12582912.0) - 12582912.0


@triton.jit
def through_norm(of_normed, normed, inverse, width):
    """Return the gradient of x, where normed = x * inverse."""
    return inverse * (of_normed - normed * (tl.sum(of_normed * normed, 0) / width))


@triton.jit
def sigmoid(x):
    """Return 1 / (1 + exp(-x))."""
    return tl.div_rn(1.0, 1.0 + exponential(-x))


@triton.jit
def swish(x):
    """Return x * sigmoid(x), and its derivative."""
    below = 1.0 + exponential(-x)
    sigma = tl.div_rn(1.0, below)
    return tl.div_rn(x, below), sigma * (1 + x * (1 - sigma))

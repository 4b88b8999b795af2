"""From rows to the inputs of projections, norms and rounding to int8, and back; and from products to rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from loihi_mmfree.checkpoint import BIT_LINEAR_EPSILON, BIT_LINEAR_SMALLEST
from loihi_mmfree.model.fused.kernels import inputs as kernels
from loihi_mmfree.model.fused.products import CODES, Scaled
from loihi_mmfree.model.fused.sizes import (
    EXACT,
    MANY_NUMBERS,
    SOME_NUMBERS,
    WALKED,
    parts_of,
    row_sizes,
)

_BLOCK = 1024


class Inputs(NamedTuple):
    """Inputs of projections that read the same rows, and what the gradient needs of them.

    Parameters
    ----------
    codes : Tensor of bfloat16 [projections, N, width]
    scales : Tensor of float32 [projections, N]
        What a step of a row's codes means.
    inverse : Tensor of float32 [N] or None
        Reciprocal root mean square of what is multiplied by the projections' gains.
    normed : Tensor [N, width] or None
        The rows behind the outer norm, before its gain.
    outer_inverse : Tensor of float32 [N] or None
        The outer norm's reciprocal root mean square.
    """

    codes: Tensor
    scales: Tensor
    inverse: Tensor | None = None
    normed: Tensor | None = None
    outer_inverse: Tensor | None = None


class InputGradients(NamedTuple):
    """Gradients of what `quantize` was given, and once more the codes that it gave.

    Parameters
    ----------
    rows : Tensor of float32 [N, width]
    gains : Tensor of float32 [projections, width]
    outer_gain : Tensor of float32 [width] or None
    codes : Tensor of bfloat16 [projections, N, width]
    """

    rows: Tensor
    gains: Tensor
    outer_gain: Tensor | None
    codes: Tensor


def quantize(
    rows: Tensor,
    gains: Tensor,
    outer_gain: Tensor | None = None,
    outer_eps: float = 0.0,
    keep: torch.dtype | None = None,
) -> Inputs:
    """Return the codes of RMS(x) * gain for each projection, where x is a row, or RMS(row) * outer_gain.

    Parameters
    ----------
    rows : Tensor [N, width]
    gains : Tensor of float32 [projections, width]
    outer_gain : Tensor [width] or None
    outer_eps : float
    keep : torch.dtype or None
        The type in which normed rows are kept for the gradient; None keeps nothing.
    """
    count, width = gains.shape
    outer = outer_gain is not None
    found = Inputs(
        torch.empty((count, *rows.shape), dtype=CODES, device=rows.device),
        torch.empty((count, len(rows)), dtype=torch.float32, device=rows.device),
    )
    if keep is not None:
        found = found._replace(inverse=torch.empty_like(found.scales[0]))
        if outer:
            kept = torch.empty_like(rows, dtype=keep), torch.empty_like(found.scales[0])
            found = found._replace(normed=kept[0], outer_inverse=kept[1])
    kernels.quantize[(len(rows),)](
        rows, outer_gain, gains, found.normed, found.outer_inverse, found.inverse, found.codes, found.scales,
        len(rows), width, outer_eps, BIT_LINEAR_EPSILON, outer=outer, keep=keep is not None, count=count,
        smallest=BIT_LINEAR_SMALLEST, **row_sizes(width), **EXACT,
    )  # fmt: skip
    return found


def quantize_backward(
    rows: Tensor,
    gains: Tensor,
    scales: Tensor,
    inverse: Tensor,
    weight_scales: Tensor,
    of_codes: Tensor,
    outer_gain: Tensor | None = None,
    outer_inverse: Tensor | None = None,
    residual: Tensor | None = None,
) -> InputGradients:
    """Go back through `quantize`, with the straight-through gradient of rounding.

    Parameters
    ----------
    rows : Tensor [N, width]
        Those that it kept as normed, or without an outer norm those that it was given.
    gains, scales, inverse, outer_gain, outer_inverse
        What it was given, and what it gave.
    weight_scales : Tensor of float32 [projections]
        The scales of the ternary matrices.
    of_codes : Tensor [projections, N, width]
        The gradients of the sums of each product, times the scale of their row, times the ternary codes.
    residual : Tensor [N, width] or None
        Is added to the gradient of the rows.
    """
    count, width = gains.shape
    outer, parts = outer_gain is not None, parts_of(len(rows))
    codes = torch.empty((count, *rows.shape), dtype=CODES, device=rows.device)
    of_rows = torch.empty_like(rows, dtype=torch.float32)
    of_gains = torch.empty((parts, count, width), dtype=torch.float32, device=rows.device)
    of_outer = torch.empty((parts, width), dtype=torch.float32, device=rows.device) if outer else None
    kernels.quantize_backward[(parts,)](
        rows, outer_gain, gains, outer_inverse, inverse, scales, weight_scales, of_codes, residual,
        codes, of_rows, of_gains, of_outer, len(rows), width,
        outer=outer, add=residual is not None, count=count, walked=WALKED, **EXACT,
        **row_sizes(width, MANY_NUMBERS if count > 1 else SOME_NUMBERS),
    )  # fmt: skip
    return InputGradients(of_rows, of_gains.sum(0), None if of_outer is None else of_outer.sum(0), codes)


def rows_of(product: Scaled, residual: Tensor | None = None) -> Tensor:
    """Return what a product [N, width] means, in float32, on top of a residual stream [N, width]."""
    rows, width = product.values.shape
    out = torch.empty_like(product.values, dtype=torch.float32)
    block = min(_BLOCK, row_sizes(width)["block"])
    kernels.apply_scale[(rows, triton.cdiv(width, block))](
        *product, residual, out, width, add=residual is not None, block=block, **EXACT
    )
    return out


def of_sums(of_rows: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the gradient of a product's sums, times the scale of their row.

    Together with the codes, not their values, that gives the gradient of a weight, since its own scale cancels.
    """
    of_rows = of_rows.contiguous()
    rows, width = of_rows.shape
    out = torch.empty_like(of_rows, dtype=dtype)
    block = min(_BLOCK, row_sizes(width)["block"])
    kernels.scale_rows[(rows, triton.cdiv(width, block))](of_rows, scales, out, width, block=block)
    return out

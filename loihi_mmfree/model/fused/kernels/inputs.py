"""Kernels of the inputs of projections: norms and codes of a row of the residual stream, and their gradient."""

from __future__ import annotations

import triton
import triton.language as tl

from loihi_mmfree.model.fused.kernels.rows import inverse_rms, rounded, scale_of, through_norm


@triton.jit
def quantize(
    x, outer_gain, gains, kept, outer_inverse, inverse, codes, scales, rows, width, outer_eps, eps,
    outer: tl.constexpr, keep: tl.constexpr, count: tl.constexpr, smallest: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Codes [count, rows, width] and scales [count, rows] of a row for as many projections, and what they keep."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, block)
    inside = column < width
    values = tl.load(x + row * width + column, mask=inside, other=0).to(tl.float32)
    if outer:
        found = inverse_rms(values, width, outer_eps)
        values *= found
        if keep:
            tl.store(outer_inverse + row, found)
            tl.store(kept + row * width + column, values.to(kept.dtype.element_ty), mask=inside)
        values *= tl.load(outer_gain + column, mask=inside, other=0).to(tl.float32)
    found = inverse_rms(values, width, eps)
    values *= found
    if keep:
        tl.store(inverse + row, found)
    for number in tl.static_range(count):
        z = values * tl.load(gains + number * width + column, mask=inside, other=0)
        scale, steps = scale_of(z, smallest)
        place = row + number * rows
        tl.store(scales + place, scale)
        tl.store(codes + place * width + column, rounded(z * steps).to(codes.dtype.element_ty), mask=inside)


@triton.jit
def _through_projection(
    of_z, weight_scale, scale, normed, gain, of_normed, of_gain, codes, place, inside,
):  # fmt: skip
    """Add one projection's gradient to those of the normed row and of its gain, and store its codes again."""
    outer = tl.load(of_z + place, mask=inside, other=0).to(tl.float32) * tl.div_rn(weight_scale, scale)
    code = rounded(normed * gain * tl.div_rn(1.0, scale))
    tl.store(codes + place, code.to(codes.dtype.element_ty), mask=inside)
    return of_normed + outer * gain, of_gain + outer * normed


@triton.jit
def quantize_backward(
    kept, outer_gain, gains, outer_inverse, inverse, scales, weight_scales, of_z, residual,
    codes, of_x, of_gains, of_outer_gain, rows, width,
    outer: tl.constexpr, add: tl.constexpr, count: tl.constexpr, walked: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """From the gradients of 1 or 3 products' inputs, [count, rows, width], to those of x and of the gains."""
    column = tl.arange(0, block)
    inside = column < width
    if outer:
        outer_gains = tl.load(outer_gain + column, mask=inside, other=0).to(tl.float32)
    gain_0 = tl.load(gains + column, mask=inside, other=0)
    of_outer = tl.zeros([block], tl.float32)
    of_gain_0 = tl.zeros([block], tl.float32)
    if count == 3:
        gain_1 = tl.load(gains + width + column, mask=inside, other=0)
        gain_2 = tl.load(gains + 2 * width + column, mask=inside, other=0)
        of_gain_1 = tl.zeros([block], tl.float32)
        of_gain_2 = tl.zeros([block], tl.float32)
    part = tl.program_id(0).to(tl.int64)
    for row in range(part * walked, tl.minimum((part + 1) * walked, rows)):
        values = tl.load(kept + row * width + column, mask=inside, other=0).to(tl.float32)
        normed = values * tl.load(inverse + row)
        if outer:
            normed *= outer_gains
        of_normed = tl.zeros([block], tl.float32)
        of_normed, of_gain_0 = _through_projection(
            of_z, tl.load(weight_scales), tl.load(scales + row), normed, gain_0, of_normed, of_gain_0, codes,
            row * width + column, inside,
        )  # fmt: skip
        if count == 3:
            second, third = row + rows, row + 2 * rows
            of_normed, of_gain_1 = _through_projection(
                of_z, tl.load(weight_scales + 1), tl.load(scales + second), normed, gain_1, of_normed, of_gain_1,
                codes, second * width + column, inside,
            )  # fmt: skip
            of_normed, of_gain_2 = _through_projection(
                of_z, tl.load(weight_scales + 2), tl.load(scales + third), normed, gain_2, of_normed, of_gain_2,
                codes, third * width + column, inside,
            )  # fmt: skip
        found = through_norm(of_normed, normed, tl.load(inverse + row), width)
        if outer:
            of_outer += found * values
            found = through_norm(found * outer_gains, values, tl.load(outer_inverse + row), width)
        if add:
            found += tl.load(residual + row * width + column, mask=inside, other=0).to(tl.float32)
        tl.store(of_x + row * width + column, found.to(of_x.dtype.element_ty), mask=inside)
    place = part * width + column
    if outer:
        tl.store(of_outer_gain + place, of_outer, mask=inside)
    own = part * count * width + column
    tl.store(of_gains + own, of_gain_0, mask=inside)
    if count == 3:
        tl.store(of_gains + own + width, of_gain_1, mask=inside)
        tl.store(of_gains + own + 2 * width, of_gain_2, mask=inside)


@triton.jit
def apply_scale(
    values, row_scales, scale, residual, out, width, add: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    """A row of a product times its scale, on top of a residual stream."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = column < width
    place = row * width + column
    factor = tl.load(row_scales + row) * tl.load(scale)
    found = tl.load(values + place, mask=inside, other=0).to(tl.float32) * factor
    if add:
        found = tl.load(residual + place, mask=inside, other=0) + found
    tl.store(out + place, found, mask=inside)


@triton.jit
def scale_rows(values, row_scales, out, width, block: tl.constexpr):
    """A row times its scale, in the type of `out`."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block + tl.arange(0, block)
    place = row * width + column
    found = tl.load(values + place, mask=column < width, other=0).to(tl.float32) * tl.load(row_scales + row)
    tl.store(out + place, found.to(out.dtype.element_ty), mask=column < width)

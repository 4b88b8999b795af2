"""Kernels between two products within a block: the gated norm and the gated linear unit, with their codes."""

from __future__ import annotations

import triton
import triton.language as tl

from loihi_mmfree.model.fused.kernels.rows import inverse_rms, rounded, scale_of, swish, through_norm


@triton.jit
def gated_norm(
    g, g_rows, g_scale, states, norm_gain, gain, codes, scales, norm_inverse, inverse, width, norm_eps, eps,
    smallest: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Codes of RMS(g) * gain * swish(h) for the projection behind it."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, block)
    inside = column < width
    place = row * width + column
    values = tl.load(g + place, mask=inside, other=0).to(tl.float32) * (tl.load(g_rows + row) * tl.load(g_scale))
    of_norm = inverse_rms(values, width, norm_eps)
    state, _ = swish(tl.load(states + place, mask=inside, other=0))
    values = values * of_norm * tl.load(norm_gain + column, mask=inside, other=0) * state
    found = inverse_rms(values, width, eps)
    z = values * found * tl.load(gain + column, mask=inside, other=0)
    scale, steps = scale_of(z, smallest)
    tl.store(codes + place, rounded(z * steps).to(codes.dtype.element_ty), mask=inside)
    tl.store(scales + row, scale)
    tl.store(norm_inverse + row, of_norm)
    tl.store(inverse + row, found)


@triton.jit
def gated_norm_backward(
    g, g_rows, g_scale, states, norm_gain, gain, scales, norm_inverse, inverse, weight_scale, of_z,
    codes, of_g, of_states, of_norm_gain, of_gain, rows, width, walked: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """From the gradient of the product's input to those of g, times its row's scale, of h and of the gains."""
    column = tl.arange(0, block)
    inside = column < width
    norm_gains = tl.load(norm_gain + column, mask=inside, other=0)
    gains = tl.load(gain + column, mask=inside, other=0)
    of_norm_gains = tl.zeros([block], tl.float32)
    of_gains = tl.zeros([block], tl.float32)
    part = tl.program_id(0).to(tl.int64)
    for row in range(part * walked, tl.minimum((part + 1) * walked, rows)):
        place = row * width + column
        g_row = tl.load(g_rows + row)
        values = tl.load(g + place, mask=inside, other=0).to(tl.float32) * (g_row * tl.load(g_scale))
        state, slope = swish(tl.load(states + place, mask=inside, other=0))
        of_norm, found, scale = tl.load(norm_inverse + row), tl.load(inverse + row), tl.load(scales + row)
        gate = values * of_norm
        normed = gate * norm_gains * state * found
        code = rounded(normed * gains * tl.div_rn(1.0, scale))
        outer = tl.load(of_z + place, mask=inside, other=0).to(tl.float32) * tl.div_rn(
            tl.load(weight_scale), scale
        )
        tl.store(codes + place, code.to(codes.dtype.element_ty), mask=inside)
        of_gains += outer * normed
        of_values = through_norm(outer * gains, normed, found, width)
        of_norm_gains += of_values * gate * state
        of_state = of_values * gate * norm_gains * slope
        of_gate = through_norm(of_values * norm_gains * state, gate, of_norm, width)
        tl.store(of_states + place, of_state.to(of_states.dtype.element_ty), mask=inside)
        tl.store(of_g + place, (of_gate * g_row).to(of_g.dtype.element_ty), mask=inside)
    own = part * width + column
    tl.store(of_norm_gain + own, of_norm_gains, mask=inside)
    tl.store(of_gain + own, of_gains, mask=inside)


@triton.jit
def glu(
    values, row_scales, scale, gain, codes, scales, inverse, width, eps,
    smallest: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Codes of swish(gate) * up for the projection behind it; gate and up are the halves of a row."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, block)
    inside = column < width
    factor = tl.load(row_scales + row) * tl.load(scale)
    gate_place = row * 2 * width + column
    gate = tl.load(values + gate_place, mask=inside, other=0).to(tl.float32) * factor
    up = tl.load(values + gate_place + width, mask=inside, other=0).to(tl.float32) * factor
    open_gate, _ = swish(gate)
    normed = open_gate * up
    found = inverse_rms(normed, width, eps)
    z = normed * found * tl.load(gain + column, mask=inside, other=0)
    own, steps = scale_of(z, smallest)
    tl.store(codes + row * width + column, rounded(z * steps).to(codes.dtype.element_ty), mask=inside)
    tl.store(scales + row, own)
    tl.store(inverse + row, found)


@triton.jit
def glu_backward(
    values, row_scales, scale, gain, scales, inverse, weight_scale, of_z,
    codes, of_values, of_gain, rows, width, walked: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """From the gradient of the product's input to those of the gain and, times their row's scale, gate and up."""
    column = tl.arange(0, block)
    inside = column < width
    gains = tl.load(gain + column, mask=inside, other=0)
    of_gains = tl.zeros([block], tl.float32)
    part = tl.program_id(0).to(tl.int64)
    for row in range(part * walked, tl.minimum((part + 1) * walked, rows)):
        row_scale = tl.load(row_scales + row)
        factor = row_scale * tl.load(scale)
        gate_place = row * 2 * width + column
        gate = tl.load(values + gate_place, mask=inside, other=0).to(tl.float32) * factor
        up = tl.load(values + gate_place + width, mask=inside, other=0).to(tl.float32) * factor
        open_gate, slope = swish(gate)
        found, own = tl.load(inverse + row), tl.load(scales + row)
        normed = open_gate * up * found
        code = rounded(normed * gains * tl.div_rn(1.0, own))
        place = row * width + column
        outer = tl.load(of_z + place, mask=inside, other=0).to(tl.float32) * tl.div_rn(tl.load(weight_scale), own)
        tl.store(codes + place, code.to(codes.dtype.element_ty), mask=inside)
        of_gains += outer * normed
        of_product = through_norm(outer * gains, normed, found, width) * row_scale
        tl.store(of_values + gate_place, (of_product * up * slope).to(of_values.dtype.element_ty), mask=inside)
        tl.store(
            of_values + gate_place + width, (of_product * open_gate).to(of_values.dtype.element_ty), mask=inside
        )
    tl.store(of_gain + part * width + column, of_gains, mask=inside)

"""The two halves of a block, each as one function with a gradient.

Kept for the gradient are the normed rows of the residual stream (float16 where products are bfloat16: they lie
within the root of their width), the sums of the products that kernels read next, and numbers of rows. Codes of
activations and weights, gates, states and what is made of them are computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from loihi_mmfree.model.fused import gates, mlgru
from loihi_mmfree.model.fused.inputs import of_sums, quantize, quantize_backward, rows_of
from loihi_mmfree.model.fused.products import Scaled, multiply, of_weight, through_weight, working_type
from loihi_mmfree.model.fused.weights import Ternary, ternarise_all

_KEPT = {torch.bfloat16: torch.float16, torch.float32: torch.float32}
"""Working type -> type in which normed rows are kept."""


class ProjectionTensors(NamedTuple):
    """A `ternary.BitLinear`: its gain [inputs], its weight [outputs, inputs], and its codes if they are known."""

    gain: Tensor
    weight: Tensor
    frozen: Ternary | None


class Norm(NamedTuple):
    """A `ternary.RMSNorm`: its gain [width], and what it adds to the mean square."""

    gain: Tensor
    eps: float


class TokenMixing(NamedTuple):
    """What the first half of a block is made of."""

    norm: Norm
    i: ProjectionTensors
    f: ProjectionTensors
    g: ProjectionTensors
    o: ProjectionTensors
    gated_norm: Norm


class ChannelMixing(NamedTuple):
    """What the second half of a block is made of."""

    norm: Norm
    gate_up: ProjectionTensors
    down: ProjectionTensors


def mix_tokens(
    x: Tensor, parts: TokenMixing, lower_bound: Tensor | None, state: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the residual stream behind the first half of a block, from x [B, T, H], and the state.

    The other parameters are those of `layers.MlGru`.
    """
    projections = (parts.i, parts.f, parts.g, parts.o)
    gains = [each.gain for each in projections]
    weights = [each.weight for each in projections]
    tensors = (x, lower_bound, state, parts.norm.gain, parts.gated_norm.gain, *gains, *weights)
    eps = parts.norm.eps, parts.gated_norm.eps
    frozen = tuple(each.frozen for each in projections)
    with torch.cuda.device_of(x):
        return _TokenMixing.apply(mask, eps, frozen, _wants_gradient(tensors), *tensors)


def mix_channels(x: Tensor, parts: ChannelMixing) -> Tensor:
    """Return the residual stream behind the second half of a block, from x [B, T, H]."""
    gate_up, down = parts.gate_up, parts.down
    tensors = (x, parts.norm.gain, gate_up.gain, down.gain, gate_up.weight, down.weight)
    frozen = gate_up.frozen, down.frozen
    with torch.cuda.device_of(x):
        return _ChannelMixing.apply(parts.norm.eps, frozen, _wants_gradient(tensors), *tensors)


def _wants_gradient(tensors: Sequence[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors)


class _TokenMixing(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        mask: Tensor | None,
        eps: tuple[float, float],
        frozen: tuple[Ternary | None, ...],
        keep: bool,
        x: Tensor,
        lower_bound: Tensor | None,
        state: Tensor | None,
        norm_gain: Tensor,
        gated_gain: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        dtype = working_type(x.device)
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        found = quantize(rows, _stacked(parameters[:3]), norm_gain, eps[0], _KEPT[dtype] if keep else None)
        ternary, sums = ternarise_all(parameters[4:], frozen)
        i, f, g = (
            multiply(codes, weight.codes, dtype) for codes, weight in zip(found.codes, ternary[:3], strict=True)
        )
        over_time, scaled_g = _read(x.shape, i, f, g, found.scales, ternary, lower_bound, mask)
        run = mlgru.run(over_time, state)
        states = run.states.flatten(0, 1)
        gated = gates.gated_norm(scaled_g, states, gated_gain.float(), eps[1], parameters[3].float())
        o = multiply(gated.codes, ternary[3].codes, dtype)
        if keep:
            ctx.save_for_backward(
                mask, found.normed, found.outer_inverse, found.inverse, found.scales, i, f, g, run.first,
                *gated[1:], sums, lower_bound, norm_gain, gated_gain, *parameters,
            )  # fmt: skip
            ctx.frozen, ctx.has_state, ctx.shape = frozen, state is not None, x.shape
        return rows_of(Scaled(o, gated.scales, ternary[3].scale), rows).view(x.shape), run.last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor, of_last: Tensor) -> tuple[Tensor | None, ...]:
        (
            mask, normed, outer_inverse, inverse, scales, i, f, g, first,
            gated_scales, gated_inverse, norm_inverse, sums, lower_bound, norm_gain, gated_gain, *parameters,
        ) = ctx.saved_tensors  # fmt: skip
        gains, weights = parameters[:4], parameters[4:]
        ternary, _ = ternarise_all(weights, ctx.frozen, sums)
        residual = outer.reshape(normed.shape)
        of_o = of_sums(residual, gated_scales, i.dtype)
        over_time, scaled_g = _read(ctx.shape, i, f, g, scales, ternary, lower_bound, mask)
        states = mlgru.run_again(over_time, first).states
        gated = gates.gated_norm_backward(
            scaled_g, states.flatten(0, 1), gated_gain.float(), gains[3].float(),
            (gated_scales, gated_inverse, norm_inverse), ternary[3].scale, through_weight(of_o, ternary[3].codes),
        )  # fmt: skip
        of_weights = [None if ctx.frozen[3] else of_weight(of_o, gated.codes)]
        run = mlgru.run_backward(over_time, states, first, gated.states.view(states.shape), of_last)
        of_products = [run.i.flatten(0, 1), run.f.flatten(0, 1), gated.g]
        of_codes = torch.empty((3, *normed.shape), dtype=i.dtype, device=i.device)
        for each, weight, out in zip(of_products, ternary[:3], of_codes, strict=True):
            through_weight(each, weight.codes, out)
        found = quantize_backward(
            normed, _stacked(gains[:3]), scales, inverse, torch.stack([each.scale for each in ternary[:3]]),
            of_codes, norm_gain, outer_inverse, residual,
        )  # fmt: skip
        for number in reversed(range(3)):
            known = ctx.frozen[number]
            of_weights.insert(0, None if known else of_weight(of_products[number], found.codes[number]))
        of_x = found.rows.view(ctx.shape)
        of_state = run.state if ctx.has_state else None
        of_gains = [*found.gains, gated.gain]
        return (
            None, None, None, None, of_x, run.lower_bound, of_state, found.outer_gain, gated.norm_gain,
            *of_gains, *of_weights,
        )  # fmt: skip


class _ChannelMixing(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, eps: float, frozen: tuple[Ternary | None, ...], keep: bool, x: Tensor, *parameters: Tensor
    ) -> Tensor:
        norm_gain, gate_gain, down_gain, *weights = parameters
        dtype = working_type(x.device)
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        found = quantize(rows, gate_gain[None].float(), norm_gain, eps, _KEPT[dtype] if keep else None)
        (gate_up, down), sums = ternarise_all(weights, frozen)
        product = multiply(found.codes[0], gate_up.codes, dtype)
        gated = gates.glu(Scaled(product, found.scales[0], gate_up.scale), down_gain.float())
        out = multiply(gated.codes, down.codes, dtype)
        if keep:
            ctx.save_for_backward(
                found.normed, found.outer_inverse, found.inverse, found.scales,
                product, gated.scales, gated.inverse, sums, *parameters,
            )  # fmt: skip
            ctx.frozen, ctx.shape = frozen, x.shape
        return rows_of(Scaled(out, gated.scales, down.scale), rows).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        (
            normed, outer_inverse, inverse, scales, product, gated_scales, gated_inverse, sums, *parameters,
        ) = ctx.saved_tensors  # fmt: skip
        norm_gain, gate_gain, down_gain, *weights = parameters
        (gate_up, down), _ = ternarise_all(weights, ctx.frozen, sums)
        residual = outer.reshape(normed.shape)
        of_down = of_sums(residual, gated_scales, product.dtype)
        gated = gates.glu_backward(
            Scaled(product, scales[0], gate_up.scale), down_gain.float(), (gated_scales, gated_inverse),
            down.scale, through_weight(of_down, down.codes),
        )  # fmt: skip
        of_down_weight = None if ctx.frozen[1] else of_weight(of_down, gated.codes)
        of_codes = through_weight(gated.gate_up, gate_up.codes)[None]
        found = quantize_backward(
            normed, gate_gain[None].float(), scales, inverse, gate_up.scale[None], of_codes,
            norm_gain, outer_inverse, residual,
        )  # fmt: skip
        of_gate_up = None if ctx.frozen[0] else of_weight(gated.gate_up, found.codes[0])
        of_x = found.rows.view(ctx.shape)
        return None, None, None, of_x, found.outer_gain, found.gains[0], gated.gain, of_gate_up, of_down_weight


def _stacked(gains: Sequence[Tensor]) -> Tensor:
    return torch.stack([*gains]).float()


def _read(
    shape: torch.Size,
    i: Tensor,
    f: Tensor,
    g: Tensor,
    scales: Tensor,
    ternary: Sequence[Ternary],
    lower_bound: Tensor | None,
    mask: Tensor | None,
) -> tuple[mlgru.Gates, Scaled]:
    """What the sums of the first three products mean, those of i and f as [B, T, C]."""
    i, f = (each.view(*shape[:2], -1) for each in (i, f))
    read = [Scaled(*each) for each in zip((i, f, g), scales, (each.scale for each in ternary[:3]), strict=True)]
    return mlgru.Gates(read[0], read[1], lower_bound, mask), read[2]

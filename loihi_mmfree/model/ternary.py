"""BitLinear: a ternary matrix times an int8-quantized, RMS-normalised input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor, nn

from loihi_mmfree.checkpoint import BIT_LINEAR_EPSILON, BIT_LINEAR_SMALLEST
from loihi_mmfree.model.fused.availability import as_built, fused_for

if TYPE_CHECKING:
    from loihi_mmfree.model.fused.weights import Ternary


class RMSNorm(nn.Module):
    """Divide by the root mean square over the last axis and multiply by a gain.

    Parameters
    ----------
    width : int
        Length of the last axis.
    eps : float
        Added to the mean square.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., width], in float32 whatever the type of `x`."""
        if fused_for(x):
            from loihi_mmfree.model.fused.norm import rms_norm

            return rms_norm(x, self.weight, self.eps)
        x = x.float()
        mean_square = x.square().mean(-1, keepdim=True, dtype=torch.float64).float()
        return x * (1 / (mean_square + self.eps).sqrt()) * self.weight


class BitLinear(nn.Module):
    """T q(RMS(x) * gain) * s, with T = clamp(round(W / s), -1, 1), s = mean|W| and q per-token int8.

    The product is taken between integers held in floats, which is exact (below 2**24), and the two means
    are taken in float64. So no order of summation shows in the result, be it of a batch, a single step or
    more threads. (Upstream's shows in the last bit, and a rounding may then fall to the other side.)
    Gradients pass both roundings unchanged, as they do upstream.
    Source: matmulfreellm, mmfreelm/ops/fusedbitnet.py (FusedBitLinear).

    Parameters
    ----------
    inputs, outputs : int
        The weight is [outputs, inputs].
    """

    weight: Tensor
    frozen_codes: Tensor | None
    frozen_scale: Tensor | None

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = RMSNorm(inputs, BIT_LINEAR_EPSILON)
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.register_buffer("frozen_codes", None, persistent=False)
        self.register_buffer("frozen_scale", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., inputs] to [..., outputs]."""
        if fused_for(x) and as_built([self.norm], {RMSNorm}):
            from loihi_mmfree.model.fused.linear import bit_linear

            return bit_linear(x, self.norm.weight, self.weight, self.frozen_for_kernels())
        activations, activation_scale = quantize_activations(self.norm(x))
        codes, weight_scale = self.ternary_weight()
        return F.linear(activations, codes) * (activation_scale * weight_scale)

    def ternary_weight(self) -> tuple[Tensor, Tensor]:
        """Return the codes [outputs, inputs], as floats, and their scale []."""
        if self.frozen_codes is not None and self.frozen_scale is not None:
            return self.frozen_codes.float(), self.frozen_scale
        return quantize_weight(self.weight)

    def codes(self) -> tuple[Tensor, Tensor]:
        """Return what `ternary_weight` returns, without a gradient, and for kernels in the type that they take."""
        if fused_for(self.weight):
            from loihi_mmfree.model.fused.weights import ternarise

            return self.frozen_for_kernels() or ternarise(self.weight)
        with torch.no_grad():
            return self.ternary_weight()

    def frozen_for_kernels(self) -> Ternary | None:
        """Return the frozen codes as kernels take them, and keep them so; None if they are not frozen."""
        if self.frozen_codes is None or self.frozen_scale is None:
            return None
        from loihi_mmfree.model.fused.products import CODES
        from loihi_mmfree.model.fused.weights import Ternary

        self.frozen_codes = self.frozen_codes.to(CODES)
        return Ternary(self.frozen_codes, self.frozen_scale)

    def freeze(self) -> None:
        """Keep the codes of the present weight until the module is trained, loaded or frozen again."""
        self.unfreeze()
        with torch.no_grad():
            self.frozen_codes, self.frozen_scale = quantize_weight(self.weight)

    def unfreeze(self) -> None:
        """Compute the codes in every call again."""
        self.frozen_codes = self.frozen_scale = None

    def train(self, mode: bool = True) -> BitLinear:
        """Set training or evaluation mode; training undoes `freeze`."""
        if mode:
            self.unfreeze()
        super().train(mode)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.unfreeze()
        super()._load_from_state_dict(*args, **kwargs)


def freeze(model: nn.Module) -> None:
    """Freeze every `BitLinear` in a model."""
    for module in _bit_linears(model):
        module.freeze()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Keep every `BitLinear` in a model frozen for as long as the context lasts."""
    thawed = [module for module in _bit_linears(model) if module.frozen_codes is None]
    try:
        for module in thawed:
            module.freeze()
        yield
    finally:
        for module in thawed:
            module.unfreeze()


def _bit_linears(model: nn.Module) -> Iterator[BitLinear]:
    return (module for module in model.modules() if isinstance(module, BitLinear))


def quantize_activations(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round every token to whole numbers of -128 to 127, half to even, by its own largest magnitude.

    Parameters
    ----------
    x : Tensor [..., width]

    Returns
    -------
    codes : Tensor [..., width]
        Whole numbers, as floats; the gradient passes the rounding.
    scale : Tensor [..., 1]
        `codes * scale` is close to `x`.
    """
    steps = 127.0 / x.detach().abs().amax(-1, keepdim=True).clamp(min=BIT_LINEAR_SMALLEST)
    scaled = x * steps
    return _straight_through(scaled, scaled.round().clamp(-128, 127)), 1 / steps


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a matrix to -1, 0, 1 by its mean magnitude, in float32 whatever its type.

    Returns
    -------
    codes : Tensor, shape of `weight`
        Whole numbers, as floats; the gradient passes the rounding.
    scale : Tensor []
        `codes * scale` equals upstream's `weight_quant(weight)` bit for bit.
    """
    weight = weight.float()
    magnitude = weight.detach().abs().mean(dtype=torch.float64).float()
    steps = 1.0 / magnitude.clamp(min=BIT_LINEAR_SMALLEST)
    scaled = weight * steps
    return _straight_through(scaled, scaled.round().clamp(-1, 1)), 1 / steps


def _straight_through(continuous: Tensor, rounded: Tensor) -> Tensor:
    """Return `rounded`, with the gradient of `continuous`."""
    if not continuous.requires_grad:
        return rounded
    return rounded + (continuous - continuous.detach())

"""The quantized model in the arithmetic that it is compiled to: what is trained is what runs.

Every value at a quantizer's site is the engine's integer times 2**-frac: the same roundings, requantizers
M * 2**-k, tables and integer root (docs/fixed-point.md, whose sections the comments name). Gradients are those of
the model without rounding, at these values (straight through). One site differs: the statistic of a merged norm
gives its format, and what is squared is cut to the width whose squares can be summed exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from numpy.typing import NDArray
from torch import Tensor, nn

from loihi_mmfree.checkpoint import BIT_LINEAR_EPSILON, cumulative_lower_bounds
from loihi_mmfree.compiler.exact.arithmetic import (
    Fixed,
    exactly,
    inverse_root,
    lerp,
    rounding_shift,
    sigmoid,
    swish,
)
from loihi_mmfree.compiler.programs import (
    ScaledPort,
    multiplier_bits,
    scaling_shifts,
    square_half_bits,
)
from loihi_mmfree.fixedpoint import tables
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.fixedpoint.requantizer import fit_multipliers
from loihi_mmfree.loihi2.hardware import LOIHI2, ChipSpec
from loihi_mmfree.quantize.blocks import (
    MERGED_EPSILON,
    MergedNorm,
    QuantizedBlock,
    QuantizedChannelMixer,
    QuantizedModel,
    QuantizedTokenMixer,
    TernaryProjection,
    normalise,
)
from loihi_mmfree.quantize.quantizers import ActivationQuantizer, ternary_codes


@dataclass(frozen=True)
class Accumulators:
    """What a ternary projection delivers.

    Parameters
    ----------
    sums : float64 tensor [B, T, n]
        The integers.
    smooth : float64 tensor [B, T, n]
        The same as real numbers, which carry the gradient.
    unit : float
        Real value of one unit of a sum.
    largest : int
        The greatest magnitude that a sum can have.
    """

    sums: Tensor
    smooth: Tensor
    unit: float
    largest: int


class ExactModel(nn.Module):
    """A calibrated `QuantizedModel` that computes what its compiled network computes.

    Parameters
    ----------
    model : QuantizedModel
        Calibrated, or given formats; its parameters and quantizers are those of this model.
    chip : ChipSpec
        The system that it is compiled for: narrower registers take narrower multipliers.
    """

    def __init__(self, model: QuantizedModel, chip: ChipSpec = LOIHI2) -> None:
        super().__init__()
        self.model, self._chip = model, chip

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits, float64 [B, T, V] for ids [B, T]: the head's accumulators times their unit."""
        model = self.model
        # Section 8: the embedding.
        embedding = model.embeddings
        table = F.embedding(ids, embedding.weight.double())
        x = Fixed(embedding.output(table), embedding.output.scaling.qformat())
        for layer, bound in zip(model.layers, self._lower_bounds(), strict=True):
            assert isinstance(layer, QuantizedBlock)
            x = self._block(layer, x, bound)
        (activations,) = self._norm(x, [model.head.lm_head], merged=model.head.norm)
        head = self._project(activations, model.head.lm_head)
        return exactly(head.smooth, head.sums * head.unit)

    def _lower_bounds(self) -> list[Tensor | None]:
        """Section 7: lower bounds in units of 2**-15 on their grid; None where there is none."""
        parameter = self.model.lower_bounds
        if parameter is None:
            return [None] * len(self.model.layers)
        bounds = cumulative_lower_bounds(parameter.double())
        units = rounding_shift(bounds.detach(), -tables.SIGMOID_FRACTION_BITS)
        held = units.clamp(0, 1 << tables.SIGMOID_FRACTION_BITS) * 2.0**-tables.SIGMOID_FRACTION_BITS
        return [None, *exactly(bounds, held)[1:]]

    def _block(self, block: QuantizedBlock, x: Fixed, bound: Tensor | None) -> Fixed:
        mixer, glu = block.attn, block.mlp
        inputs = self._norm(x, [mixer.i_proj, mixer.f_proj, mixer.g_proj], merged=block.attn_norm)
        x = self._residual(x, self._token_mixer(mixer, inputs, bound), mixer.o_proj, block.attn_residual)
        (activations,) = self._norm(x, [glu.gate_proj], merged=block.mlp_norm)
        return self._residual(x, self._channel_mixer(glu, activations), glu.down_proj, block.mlp_residual)

    # -- section 6: norms -----------------------------------------------------------------------

    def _norm(
        self,
        x: Fixed,
        readers: list[TernaryProjection],
        merged: MergedNorm | None = None,
        epsilon: float = 0.0,
    ) -> list[Fixed]:
        """Return what goes into each projection that reads a norm of x."""
        size = x.real.shape[-1]
        half_bits = square_half_bits(size, self._chip)
        square, square_frac = self._squared(x, merged, half_bits)
        offset = math.floor(epsilon * size * 4.0**square_frac + 0.5)
        root, exponent = inverse_root(square.square().sum(-1, keepdim=True) + offset)
        smooth = normalise(x.real if merged is None else merged.gained(x.real), epsilon or MERGED_EPSILON)
        outer = np.ones(size) if merged is None else _numbers(merged.weight)
        found = []
        for reader in readers:
            target = reader.input.scaling.qformat()
            gains = outer * _numbers(reader.norm.weight) * (math.sqrt(size) / target.ratio)
            multipliers, gain_frac = fit_multipliers(gains)
            port = ScaledPort(reader.input.site, target, gain_frac, square_frac)
            first, second = scaling_shifts(x.format, port, self._chip)
            gained = rounding_shift(x.units * _tensor(multipliers, x.real), first)
            units = rounding_shift(gained * root, second + exponent)
            found.append(self._quantized(reader.input, reader.norm(smooth), units))
        return found

    def _squared(self, x: Fixed, merged: MergedNorm | None, half_bits: int) -> tuple[Tensor, int]:
        """Return the integers that are squared, held to half_bits, and their fractional bits."""
        if merged is None:
            cut = max(x.format.bits - 1 - half_bits, 0)
            value, frac = rounding_shift(x.units, cut), x.format.frac - cut
        else:
            statistic = merged.statistic.scaling.qformat()
            frac = statistic.frac - max(statistic.bits - (half_bits + 1), 0)
            multipliers, shift = fit_multipliers(_numbers(merged.weight) * 2.0 ** (frac - x.format.frac))
            value = rounding_shift(x.units * _tensor(multipliers, x.real), shift)
        limit = (1 << half_bits) - 1
        return value.clamp(-limit, limit), frac

    # -- sections 5, 7 and 8 ----------------------------------------------------------------------

    def _token_mixer(self, mixer: QuantizedTokenMixer, inputs: list[Fixed], bound: Tensor | None) -> Fixed:
        """Section 7."""
        readers = (mixer.i_proj, mixer.f_proj, mixer.g_proj)
        i_sums, f_sums, g_sums = (self._project(a, reader) for a, reader in zip(inputs, readers, strict=True))
        i = self._requantized(i_sums, mixer.i_output)
        f = self._requantized(f_sums, mixer.f_output)
        gate = self._gate(f, bound)
        candidate = self._swished(i, mixer.state)
        h = self._scan(mixer, candidate, gate)
        g = self._requantized(g_sums, mixer.g_output, mixer.g_norm.weight)
        y = self._gated(g, h, mixer.output)
        (activations,) = self._norm(y, [mixer.o_proj])
        return activations

    def _gate(self, f: Fixed, bound: Tensor | None) -> Tensor:
        """The forget gate, on the grid of 2**-15."""
        one = 1 << tables.SIGMOID_FRACTION_BITS
        units, smooth = sigmoid(f), torch.sigmoid(f.real)
        if bound is not None:
            units = lerp(bound.detach() * one, float(one), units, tables.SIGMOID_FRACTION_BITS)
            smooth = bound + (1 - bound) * smooth
        return exactly(smooth, units / one)

    def _swished(self, x: Fixed, quantizer: ActivationQuantizer) -> Fixed:
        value, frac = swish(x)
        target = quantizer.scaling.qformat()
        return self._quantized(quantizer, F.silu(x.real), rounding_shift(value, frac - target.frac))

    def _scan(self, mixer: QuantizedTokenMixer, candidate: Fixed, gate: Tensor) -> Fixed:
        """h = lerp(gate, h, s, 15), from 0."""
        bits, frac = tables.SIGMOID_FRACTION_BITS, candidate.format.frac
        state, states = torch.zeros_like(candidate.real[:, 0]), []
        for fresh, keep in zip(candidate.real.unbind(1), gate.unbind(1), strict=True):
            units = lerp(keep.detach() * 2.0**bits, state.detach() * 2.0**frac, fresh.detach() * 2.0**frac, bits)
            state = self._quantized(mixer.state, keep * state + (1 - keep) * fresh, units).real
            states.append(state)
        return Fixed(torch.stack(states, dim=1), candidate.format)

    def _channel_mixer(self, mixer: QuantizedChannelMixer, activations: Fixed) -> Fixed:
        """Section 8: the gated linear unit."""
        half = mixer.gate_proj.out_features // 2
        gate_sums = self._project(activations, mixer.gate_proj, slice(half))
        up_sums = self._project(activations, mixer.gate_proj, slice(half, None))
        gate, up = self._requantized(gate_sums, mixer.gate), self._requantized(up_sums, mixer.up)
        z = self._gated(up, gate, mixer.output)
        (found,) = self._norm(z, [mixer.down_proj], epsilon=BIT_LINEAR_EPSILON)
        return found

    def _gated(self, gate: Fixed, x: Fixed, quantizer: ActivationQuantizer) -> Fixed:
        """gate * silu(x)."""
        value, frac = swish(x)
        target = quantizer.scaling.qformat()
        units = rounding_shift(gate.units * value, gate.format.frac + frac - target.frac)
        return self._quantized(quantizer, gate.real * F.silu(x.real), units)

    def _residual(
        self, x: Fixed, activations: Fixed, projection: TernaryProjection, quantizer: ActivationQuantizer
    ) -> Fixed:
        """Section 8: x' = x + what a projection adds."""
        sums, target = self._project(activations, projection), quantizer.scaling.qformat()
        before = rounding_shift(x.units, x.format.frac - target.frac)
        return self._quantized(quantizer, x.real + sums.smooth, before + self._multiplied(sums, target))

    # -- section 2 --------------------------------------------------------------------------------

    def _project(
        self, activations: Fixed, projection: TernaryProjection, rows: slice = slice(None)
    ) -> Accumulators:
        """Section 5: exact sums of integers."""
        codes, scale = ternary_codes(projection)
        codes = codes[rows]
        sums = F.linear(activations.units, codes.double())
        longest = int(codes.abs().sum(dim=1, dtype=torch.int64).max())
        smooth = F.linear(activations.real, projection.quant_weight().value[rows].double())
        return Accumulators(sums, smooth, scale * activations.format.scale, longest * activations.format.max_int)

    def _requantized(
        self, sums: Accumulators, quantizer: ActivationQuantizer, gains: Tensor | None = None
    ) -> Fixed:
        smooth = sums.smooth if gains is None else sums.smooth * gains
        units = self._multiplied(sums, quantizer.scaling.qformat(), gains)
        return self._quantized(quantizer, smooth, units)

    def _multiplied(self, sums: Accumulators, target: QFormat, gains: Tensor | None = None) -> Tensor:
        """Sums in units of a format: rsh(A * M, k)."""
        scales = np.atleast_1d(np.float64(sums.unit / target.scale))
        if gains is not None:
            scales = _numbers(gains) * scales
        multipliers, shift = fit_multipliers(scales, multiplier_bits(sums.largest, self._chip))
        return rounding_shift(sums.sums * _tensor(multipliers, sums.sums), shift)

    def _quantized(self, quantizer: ActivationQuantizer, smooth: Tensor, units: Tensor) -> Fixed:
        """Send whole numbers through the quantizer of their site, which clamps them."""
        target = quantizer.scaling.qformat()
        return Fixed(quantizer(exactly(smooth, units * target.scale)), target)


def _numbers(parameter: Tensor) -> NDArray[np.float64]:
    """A parameter as float64 numbers, outside the graph of gradients."""
    return parameter.detach().double().cpu().numpy()


def _tensor(numbers: NDArray[np.int32], like: Tensor) -> Tensor:
    return torch.as_tensor(numbers, dtype=torch.float64, device=like.device)

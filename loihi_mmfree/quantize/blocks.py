"""The quantized model as trainable torch modules, after the norm algebra, with a quantizer at every site.

Parameters carry upstream's names, so that a checkpoint loads into them and trained ones go back; each
quantizer carries the name of its site (docs/fixed-point.md lists them). Sources: HGRN token mixer, Qin et
al. 2023 (arXiv:2311.04823); MatMul-free LM, Zhu et al. 2024 (arXiv:2406.02528).

The norm algebra: a norm followed by a projection's own norm is one norm, since the second divides the
first one's scalar out again; the same goes for the norm on the g branch, whose gain alone remains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import brevitas.nn as qnn
import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor, nn

from loihi_mmfree.checkpoint import BIT_LINEAR_EPSILON, Checkpoint, ModelConfig, cumulative_lower_bounds
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.fixedpoint.ternary import pack_ternary
from loihi_mmfree.quantize.config import QuantizationConfig, SiteSetting
from loihi_mmfree.quantize.parameters import TernaryMatrix
from loihi_mmfree.quantize.quantizers import ActivationQuantizer, TernaryWeight, freeze_weight

# A merged norm sees u = x * gain where upstream normalised x first; there the epsilon is relative to x
# and drops out but for 1e-6 of the mean square. Only a division by zero is left to avoid.
MERGED_EPSILON = 1e-30


Recurrence = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From f and c [B, T, H'], and h [B, H'] before, to the states of h_t = f_t h_(t-1) + c_t and the last of them."""


def site_quantizer(
    config: QuantizationConfig, site: str, bits: int, method: str | None = None
) -> ActivationQuantizer:
    """Return the quantizer of a site: by a method without headroom, or above the largest magnitude with it.

    Raises
    ------
    UsageError
        A rule of the configuration asks for what such a site cannot have.
    """
    default = SiteSetting(bits, config.headroom_bits) if method is None else SiteSetting(bits, method=method)
    return ActivationQuantizer(site, **dataclasses.asdict(config.setting(site, default)))


def normalise(value: Tensor, epsilon: float = MERGED_EPSILON) -> Tensor:
    """Return value / sqrt(mean of squares over the last axis + epsilon)."""
    return value * torch.rsqrt(value.square().mean(-1, keepdim=True) + epsilon)


class ChannelGain(nn.Module):
    """The gain of a norm, one factor a channel."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, value: Tensor) -> Tensor:
        """Return value * weight."""
        return value * self.weight


class MergedNorm(ChannelGain):
    """The norm in front of projections, merged with theirs: u = x * gain, then u / rms(u)."""

    def __init__(self, size: int, site: str, config: QuantizationConfig) -> None:
        super().__init__(size)
        self.statistic = site_quantizer(config, f"{site}.statistic", config.product_bits)

    def forward(self, value: Tensor) -> Tensor:
        """Return the normalised value; the projections apply their own gains."""
        return normalise(self.statistic(self.gained(value)))

    def gained(self, value: Tensor) -> Tensor:
        """Return value * weight, what is squared."""
        return super().forward(value)


class TernaryProjection(qnn.QuantLinear):
    """A ternary projection with the gain of its own norm and the quantizer of its input."""

    def __init__(self, inputs: int, outputs: int, site: str, config: QuantizationConfig) -> None:
        super().__init__(inputs, outputs, bias=False, weight_quant=TernaryWeight)
        self.norm = ChannelGain(inputs)
        self.input = site_quantizer(config, f"{site}.input", config.activation_bits, "least_squares")

    def reset_parameters(self) -> None:
        """Draw nothing: the weight comes from a checkpoint."""
        nn.init.zeros_(self.weight)

    def forward(self, normalised: Tensor) -> Tensor:
        """Return T q(normalised * gain) * s; `normalised` has unit mean square."""
        return super().forward(self.quantized_input(normalised))

    def quantized_input(self, normalised: Tensor) -> Tensor:
        """Return what goes into the ternary product: q(normalised * gain)."""
        return self.input(self.norm(normalised))


class QuantizedTokenMixer(nn.Module):
    """The MLGRU: i, f and g projections, the recurrence, the gated output and its projection."""

    def __init__(self, model: ModelConfig, site: str, config: QuantizationConfig) -> None:
        super().__init__()
        hidden, channels = model.hidden_size, model.input_dim
        self.i_proj = TernaryProjection(hidden, channels, f"{site}.i_proj", config)
        self.f_proj = TernaryProjection(hidden, channels, f"{site}.f_proj", config)
        self.g_proj = TernaryProjection(hidden, channels, f"{site}.g_proj", config)
        self.i_output = site_quantizer(config, f"{site}.i_proj.output", config.preactivation_bits)
        self.f_output = site_quantizer(config, f"{site}.f_proj.output", config.preactivation_bits)
        self.g_output = site_quantizer(config, f"{site}.g_proj.output", config.preactivation_bits)
        self.g_norm = ChannelGain(channels)
        self.state = site_quantizer(config, f"{site}.state", config.state_bits)
        self.output = site_quantizer(config, f"{site}.output", config.product_bits)
        self.recurrence: Recurrence | None = None
        """Computes all states at once, before any is quantized; None takes one token after the other."""
        self.o_proj = TernaryProjection(channels, hidden, f"{site}.o_proj", config)

    def forward(self, normalised: Tensor, lower_bound: Tensor) -> Tensor:
        """Return the change of the residual.

        Parameters
        ----------
        normalised : Tensor [B, T, H]
        lower_bound : Tensor [H']
            Lower bound of the forget gate of each channel, 0 to 1.
        """
        candidate = self.state(F.silu(self.i_output(self.i_proj(normalised))))
        gate = torch.sigmoid(self.f_output(self.f_proj(normalised)))
        gate = lower_bound + (1 - lower_bound) * gate
        states = self.scan(candidate, gate)
        output = self.output(self.g_output(self.g_norm(self.g_proj(normalised))) * F.silu(states))
        return self.o_proj(normalise(output))

    def scan(self, candidate: Tensor, gate: Tensor) -> Tensor:
        """Return all states of h_t = f_t h_(t-1) + (1 - f_t) s_t from h_0 = 0, each one quantized.

        With `recurrence`, a state is not made of the quantized one before it: at 16 bits all but the same, and a
        fraction of the steps, for training.

        Parameters
        ----------
        candidate, gate : Tensor [B, T, H']
            s and f.
        """
        # What only notes values may do so at the end, of all at once.
        observing = self.state.observing
        state = torch.zeros_like(candidate[:, 0])
        if self.recurrence is not None:
            return self.state(self.recurrence(gate, (1 - gate) * candidate, state.double())[0])
        states = []
        for fresh, keep in zip(((1 - gate) * candidate).unbind(1), gate.unbind(1), strict=True):
            state = keep * state + fresh
            state = state if observing else self.state(state)
            states.append(state)
        scanned = torch.stack(states, dim=1)
        return self.state(scanned) if observing else scanned


class QuantizedChannelMixer(nn.Module):
    """The gated linear unit."""

    def __init__(self, model: ModelConfig, site: str, config: QuantizationConfig) -> None:
        super().__init__()
        hidden, width = model.hidden_size, model.intermediate_size
        gate_site = f"{site}.gate_proj"
        self.gate_proj = TernaryProjection(hidden, 2 * width, gate_site, config)
        self.gate = site_quantizer(config, f"{gate_site}.gate", config.preactivation_bits)
        self.up = site_quantizer(config, f"{gate_site}.up", config.preactivation_bits)
        self.output = site_quantizer(config, f"{site}.output", config.product_bits)
        self.down_proj = TernaryProjection(width, hidden, f"{site}.down_proj", config)

    def forward(self, normalised: Tensor) -> Tensor:
        """Return the change of the residual, [B, T, H] for [B, T, H]."""
        gate, up = self.gate_proj(normalised).chunk(2, dim=-1)
        output = self.output(F.silu(self.gate(gate)) * self.up(up))
        return self.down_proj(normalise(output, BIT_LINEAR_EPSILON))


class QuantizedBlock(nn.Module):
    """One block: token mixer and channel mixer, each added to the residual."""

    def __init__(self, model: ModelConfig, layer: int, config: QuantizationConfig) -> None:
        super().__init__()
        attn, mlp = f"layers.{layer}.attn", f"layers.{layer}.mlp"
        self.attn_norm = MergedNorm(model.hidden_size, attn, config)
        self.attn = QuantizedTokenMixer(model, attn, config)
        self.attn_residual = site_quantizer(config, f"{attn}.residual", config.residual_bits)
        self.mlp_norm = MergedNorm(model.hidden_size, mlp, config)
        self.mlp = QuantizedChannelMixer(model, mlp, config)
        self.mlp_residual = site_quantizer(config, f"{mlp}.residual", config.residual_bits)

    def forward(self, residual: Tensor, lower_bound: Tensor) -> Tensor:
        """Return the residual after the block, [B, T, H] for [B, T, H]."""
        residual = self.attn_residual(residual + self.attn(self.attn_norm(residual), lower_bound))
        return self.mlp_residual(residual + self.mlp(self.mlp_norm(residual)))


class QuantizedEmbedding(nn.Embedding):
    """The token embedding and the format of its table.

    Calibration shows it the whole table, so its format needs no headroom.
    """

    def __init__(self, model: ModelConfig, config: QuantizationConfig) -> None:
        super().__init__(model.vocab_size, model.hidden_size)
        self.output = site_quantizer(config, "embeddings", config.residual_bits, "max")

    def reset_parameters(self) -> None:
        """Draw nothing: the table comes from a checkpoint."""
        nn.init.zeros_(self.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the quantized rows, [B, T, H] for ids [B, T]."""
        return self.output(super().forward(ids))


class QuantizedHead(nn.Module):
    """The final norm and the ternary head."""

    def __init__(self, model: ModelConfig, config: QuantizationConfig) -> None:
        super().__init__()
        self.norm = MergedNorm(model.hidden_size, "norm", config)
        self.lm_head = TernaryProjection(model.hidden_size, model.vocab_size, "lm_head", config)

    def forward(self, residual: Tensor) -> Tensor:
        """Return the logits, [B, T, V] for [B, T, H]."""
        return self.lm_head(self.norm(residual))


class QuantizedModel(nn.Module):
    """The whole model, for quantization-aware training and as the fake-quantized reference.

    Parameters
    ----------
    model : ModelConfig
    config : QuantizationConfig
    """

    no_bounds: Tensor

    def __init__(self, model: ModelConfig, config: QuantizationConfig) -> None:
        super().__init__()
        shape = (model.num_hidden_layers, model.input_dim)
        self.embeddings = QuantizedEmbedding(model, config)
        self.lower_bounds = nn.Parameter(torch.zeros(shape)) if model.use_lower_bound else None
        self.register_buffer("no_bounds", torch.zeros(shape), persistent=False)
        self.layers = nn.ModuleList(
            QuantizedBlock(model, layer, config) for layer in range(model.num_hidden_layers)
        )
        self.head = QuantizedHead(model, config)
        if model.tie_word_embeddings:
            self.head.lm_head.weight = self.embeddings.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits, [B, T, V] for ids [B, T]."""
        residual = self.embeddings(ids)
        bounds = self.no_bounds if self.lower_bounds is None else cumulative_lower_bounds(self.lower_bounds)
        for layer, bound in zip(self.layers, bounds, strict=True):
            residual = layer(residual, bound)
        return self.head(residual)


def fill_parameters(module: nn.Module, checkpoint: Checkpoint, prefix: str) -> None:
    """Fill the parameters of a module, those of its quantizers aside, from upstream's tensors.

    Parameters
    ----------
    module : nn.Module
    checkpoint : Checkpoint
    prefix : str
        What upstream puts in front of the names, e.g. `model.layers.0.`.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "_quant." not in name:
                parameter.data = checkpoint.tensor(prefix + name)


def load_block(checkpoint: Checkpoint, layer: int, config: QuantizationConfig) -> QuantizedBlock:
    """Return one block with the checkpoint's weights, not yet calibrated."""
    block = QuantizedBlock(checkpoint.config, layer, config)
    fill_parameters(block, checkpoint, f"model.layers.{layer}.")
    return block.eval()


def load_head(checkpoint: Checkpoint, config: QuantizationConfig) -> QuantizedHead:
    """Return the final norm and the head with the checkpoint's weights, not yet calibrated."""
    head = QuantizedHead(checkpoint.config, config)
    fill_parameters(head.norm, checkpoint, "model.norm.")
    fill_parameters(head.lm_head, checkpoint, "lm_head.")
    return head.eval()


def load_embedding(checkpoint: Checkpoint, config: QuantizationConfig) -> QuantizedEmbedding:
    """Return the embedding with the checkpoint's table, not yet calibrated."""
    embedding = QuantizedEmbedding(checkpoint.config, config)
    fill_parameters(embedding, checkpoint, "model.embeddings.")
    return embedding.eval()


def load_model(checkpoint: Checkpoint, config: QuantizationConfig) -> QuantizedModel:
    """Return the whole model with the checkpoint's weights, not yet calibrated."""
    model = QuantizedModel(checkpoint.config, config)
    fill_parameters(model.embeddings, checkpoint, "model.embeddings.")
    fill_parameters(model.layers, checkpoint, "model.layers.")
    fill_parameters(model.head.norm, checkpoint, "model.norm.")
    fill_parameters(model.head.lm_head, checkpoint, "lm_head.")
    if model.lower_bounds is not None:
        with torch.no_grad():
            model.lower_bounds.copy_(checkpoint.tensor("model.lower_bounds"))
    return model.eval()


def freeze_projections(module: nn.Module, prefix: str) -> dict[str, TernaryMatrix]:
    """Quantize the weights of all projections in a module, once and for good; for inference.

    Parameters
    ----------
    module : nn.Module
    prefix : str
        What upstream puts in front of the names.

    Returns
    -------
    dict of upstream's name of a weight -> TernaryMatrix
    """
    found = {}
    for name, part in module.named_modules():
        if isinstance(part, TernaryProjection):
            codes, scale = freeze_weight(part)
            found[f"{prefix}{name}.weight"] = TernaryMatrix(pack_ternary(codes.numpy()), scale)
    return found


def set_formats(
    module: nn.Module, formats: Mapping[str, QFormat], thresholds: Mapping[str, int] | None = None
) -> None:
    """Give every quantizer in a module the format and the threshold of its site instead of calibrating it."""
    for quantizer in quantizers(module):
        quantizer.scaling.set_format(formats[quantizer.site])
        quantizer.scaling.threshold = (thresholds or {}).get(quantizer.site, 0)


def quantizers(module: nn.Module) -> Iterator[ActivationQuantizer]:
    """Yield the quantizers of all sites in a module."""
    return (part for part in module.modules() if isinstance(part, ActivationQuantizer))

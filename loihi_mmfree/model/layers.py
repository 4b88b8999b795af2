"""The modules of a block. Names are upstream's, so that its state dict fits."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor, nn

from loihi_mmfree.checkpoint import ModelConfig
from loihi_mmfree.model.fused.availability import as_built, fused_for
from loihi_mmfree.model.recurrence import recurrence
from loihi_mmfree.model.ternary import BitLinear, RMSNorm


class MlGru(nn.Module):
    """The MatMul-free linear gated recurrent unit: h_t = f_t h_{t-1} + (1 - f_t) silu(i_t).

    It has no parameters; it is a module so that its state can be tapped. Heads would only reshape the
    channels, which no operation here mixes.
    """

    def forward(
        self,
        i: Tensor,
        f: Tensor,
        lower_bound: Tensor | None,
        state: Tensor | None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run over time.

        Parameters
        ----------
        i, f : Tensor [B, T, H']
            Input and forget pre-activations, T >= 1.
        lower_bound : Tensor [H'] or None
            Smallest value of the forget gate.
        state : Tensor of float64 [B, H'] or None
            The state before the first step; None is zero.
        mask : Tensor of bool [B, T] or None
            Which steps are of tokens; the others keep the state as it is. None is all.

        Returns
        -------
        states : Tensor [B, T, H']
            The state after every step.
        last : Tensor of float64 [B, H']
        """
        if fused_for(f):
            from loihi_mmfree.model.fused.mlgru import mlgru

            return mlgru(i, f, lower_bound, state, mask)
        forget = f.sigmoid()
        if lower_bound is not None:
            forget = lower_bound + (1 - lower_bound) * forget
        candidate = F.silu(i) * (1 - forget)
        if mask is not None:
            forget = torch.where(mask[..., None], forget, 1.0)
            candidate = torch.where(mask[..., None], candidate, 0.0)
        if state is None:
            state = torch.zeros_like(candidate[:, 0], dtype=torch.float64)
        return recurrence(forget, candidate, state)


class GatedNorm(RMSNorm):
    """RMS(g) * gain * silu(h): the norm is on the gate, the swish on the recurrent state."""

    def forward(self, g: Tensor, h: Tensor) -> Tensor:  # type: ignore[override]
        """Combine gate and state, both [..., width]."""
        return super().forward(g) * F.silu(h)


class TokenMixer(nn.Module):
    """The part of a block that carries information from token to token (upstream's HGRNBitAttention)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, channels = config.hidden_size, config.input_dim
        self.i_proj = BitLinear(hidden, channels)
        self.f_proj = BitLinear(hidden, channels)
        self.g_proj = BitLinear(hidden, channels)
        self.mlgru = MlGru()
        self.g_norm = GatedNorm(channels, config.rms_norm_eps)
        self.o_proj = BitLinear(channels, hidden)

    def forward(
        self, x: Tensor, lower_bound: Tensor | None, state: Tensor | None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Map x [B, T, H] and the state [B, H'] to the output [B, T, H] and the new state (see `MlGru`)."""
        states, last = self.mlgru(self.i_proj(x), self.f_proj(x), lower_bound, state, mask)
        return self.o_proj(self.g_norm(self.g_proj(x), states)), last


class Glu(nn.Module):
    """silu(gate) * up. Without parameters; a module so that it can be tapped."""

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Combine two tensors [..., I]."""
        return F.silu(gate) * up


class ChannelMixer(nn.Module):
    """The gated linear unit of a block (upstream's HGRNBitMLP)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = BitLinear(config.hidden_size, 2 * config.intermediate_size)
        self.glu = Glu()
        self.down_proj = BitLinear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., H] to [..., H]."""
        gate, up = self.gate_proj(x).chunk(2, -1)
        return self.down_proj(self.glu(gate, up))


class Block(nn.Module):
    """Token mixer and channel mixer, each behind a norm and beside the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = TokenMixer(config)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = ChannelMixer(config)

    def forward(
        self, x: Tensor, lower_bound: Tensor | None, state: Tensor | None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Map the residual stream [B, T, H] and the state [B, H'] to their new values (see `MlGru`)."""
        if fused_for(x) and as_built(list(self.modules())[1:], _WITHIN_A_BLOCK):
            return self._fused(x, lower_bound, state, mask)
        mixed, state = self.attn(self.attn_norm(x), lower_bound, state, mask)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), state

    def _fused(
        self, x: Tensor, lower_bound: Tensor | None, state: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Do the same in a few kernels, past the modules within."""
        from loihi_mmfree.model.fused import mixers

        def projection(module: BitLinear) -> mixers.ProjectionTensors:
            return mixers.ProjectionTensors(module.norm.weight, module.weight, module.frozen_for_kernels())

        attn, mlp = self.attn, self.mlp
        tokens = mixers.TokenMixing(
            mixers.Norm(self.attn_norm.weight, self.attn_norm.eps),
            projection(attn.i_proj),
            projection(attn.f_proj),
            projection(attn.g_proj),
            projection(attn.o_proj),
            mixers.Norm(attn.g_norm.weight, attn.g_norm.eps),
        )
        channels = mixers.ChannelMixing(
            mixers.Norm(self.mlp_norm.weight, self.mlp_norm.eps),
            projection(mlp.gate_proj),
            projection(mlp.down_proj),
        )
        x, state = mixers.mix_tokens(x, tokens, lower_bound, state, mask)
        return mixers.mix_channels(x, channels), state


_WITHIN_A_BLOCK = {RMSNorm, BitLinear, MlGru, GatedNorm, TokenMixer, Glu, ChannelMixer}

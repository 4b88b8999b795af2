"""The whole model: embedding, blocks, final norm and ternary head."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from loihi_mmfree.checkpoint import Checkpoint, ModelConfig, cumulative_lower_bounds
from loihi_mmfree.model.layers import Block
from loihi_mmfree.model.ternary import BitLinear, RMSNorm, freeze

State = list[Tensor]


class Backbone(nn.Module):
    """Everything below the head (upstream's HGRNBitModel)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # Not nn.Embedding(V, H): that draws random numbers, which on the meta device takes seconds.
        self.embeddings = nn.Embedding.from_pretrained(
            torch.empty(config.vocab_size, config.hidden_size), freeze=False
        )
        self.lower_bounds = (
            nn.Parameter(torch.zeros(config.num_hidden_layers, config.input_dim))
            if config.use_lower_bound
            else None
        )
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forget_bounds(self) -> list[Tensor | None]:
        """Return the lower bound [H'] of every layer's forget gate; the first layer has none."""
        if self.lower_bounds is None:
            return [None] * len(self.layers)
        return [None, *cumulative_lower_bounds(self.lower_bounds.float())[1:]]

    def forward(self, ids: Tensor, state: State | None, mask: Tensor | None = None) -> tuple[Tensor, State]:
        """Map ids [B, T] to the normed hidden states [B, T, H] and the new state; `mask` as in `MlGru`."""
        x = self.embeddings(ids).float()
        previous: Sequence[Tensor | None] = [None] * len(self.layers) if state is None else state
        following: State = []
        for layer, bound, before in zip(self.layers, self.forget_bounds(), previous, strict=True):
            x, after = layer(x, bound, before, mask)
            following.append(after)
        return self.norm(x), following


class MatMulFreeLM(nn.Module):
    """A MatMul-free language model in plain PyTorch, with upstream's parameter names.

    Its equations are in docs/; its source is matmulfreellm (HGRNBitForCausalLM). A new one is
    initialised as upstream does it.

    Parameters
    ----------
    config : ModelConfig
        The shape of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = BitLinear(config.hidden_size, config.vocab_size)
        if not self.lm_head.weight.is_meta:
            self._initialise()
        self._tie()

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> MatMulFreeLM:
        """Return the model of a checkpoint, in float32, frozen for evaluation (see `freeze`)."""
        with torch.device("meta"):
            model = cls(checkpoint.config)
        model.load_state_dict({name: checkpoint.tensor(name) for name in model.state_dict()}, assign=True)
        model._tie()
        return model.freeze()

    def forward(
        self, ids: Tensor, state: State | None = None, taps: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, State]:
        """Read tokens and predict what follows each of them.

        Parameters
        ----------
        ids : Tensor of int [B, T]
            Tokens, T >= 1.
        state : list of Tensor of float64 [B, H'], one per layer, or None
            What an earlier call returned, to continue from there; None is the beginning of a text.
        taps : dict or None
            If given, receives the output of every module under its upstream name, such as
            `layers.0.attn.i_proj`. Beside those of upstream there are `layers.{l}` (a block's output),
            `layers.{l}.attn.mlgru` (the recurrent state) and `layers.{l}.mlp.glu`.

        Returns
        -------
        logits : Tensor [B, T, V]
        state : list of Tensor of float64 [B, H'], one per layer
        """
        named = [*list(self.model.named_modules())[1:], ("lm_head", self.lm_head)]
        with tapping(named, taps):
            hidden, state = self.model(ids, state)
            return self.lm_head(hidden), state

    def freeze(self) -> MatMulFreeLM:
        """Switch to evaluation and compute all ternary weights once, not in every call.

        `train()` and `load_state_dict()` undo it; call it again after changing a weight in place.
        """
        self.eval()
        freeze(self)
        return self

    def _tie(self) -> None:
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embeddings.weight

    def _initialise(self) -> None:
        """Draw fresh weights as upstream does; its token mixers have a rule of their own."""
        spread = self.config.initializer_range
        residual_spread = spread / math.sqrt(2 * self.config.num_hidden_layers)
        for name, module in self.named_modules():
            if not isinstance(module, BitLinear | nn.Embedding):
                continue
            if ".attn." in name:
                nn.init.xavier_uniform_(module.weight, gain=2**-2.5)
            else:
                nn.init.normal_(module.weight, std=residual_spread if "down_proj" in name else spread)


@contextmanager
def tapping(modules: Iterable[tuple[str, nn.Module]], taps: dict[str, Tensor] | None) -> Iterator[None]:
    """Collect the outputs of modules into `taps`, by the names given, for as long as the context lasts."""
    if taps is None:
        yield
        return
    handles = [module.register_forward_hook(_store(taps, name)) for name, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _store(taps: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Any], None]:
    """Return a hook that keeps a module's output; of a pair (output, state) it keeps the output."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        taps[name] = output[0] if isinstance(output, tuple) else output

    return hook


def logits_function(model: MatMulFreeLM) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from token ids [T] to logits [T, V], which starts from an empty state each time."""
    device = model.model.embeddings.weight.device

    @torch.no_grad()
    def logits(ids: np.ndarray) -> np.ndarray:
        batch = torch.as_tensor(np.asarray(ids, dtype=np.int64), device=device)[None]
        return model(batch)[0][0].cpu().numpy()

    return logits

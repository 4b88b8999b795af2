"""The float model as what is trained, and the folder of Hugging Face that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from loihi_mmfree.checkpoint import Checkpoint, ModelConfig
from loihi_mmfree.hf import HGRNBitConfig, HGRNBitForCausalLM
from loihi_mmfree.model.ternary import BitLinear
from loihi_mmfree.train.loop import Learner


class NextToken(nn.Module):
    """The mean loss of the next token over windows.

    Parameters
    ----------
    model : HGRNBitForCausalLM
    """

    def __init__(self, model: HGRNBitForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        """Return the loss [] of windows [B, T], in nats a token."""
        return self.model(input_ids=ids, labels=ids, use_cache=False).loss


def float_learner(config: ModelConfig, seed: int, base: Checkpoint | None = None) -> Learner:
    """Return a fresh model, initialised as upstream does it, or that of a checkpoint."""
    torch.manual_seed(seed)
    model = HGRNBitForCausalLM(HGRNBitConfig(**config.to_dict()))
    if base is not None:
        state = {name: base.tensor(name) for name in base.names()}
        model.load_state_dict(state, strict=not config.tie_word_embeddings)
    embedding = model.model.embeddings.weight
    matrices = (each.weight for each in model.modules() if isinstance(each, BitLinear))
    decayed = tuple(each for each in matrices if isinstance(each, nn.Parameter) and each is not embedding)
    return Learner(NextToken(model), decayed, ("Block",))


def write_model(folder: Path, config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Write the weights of a `NextToken` as a folder of Hugging Face, in float32."""
    with torch.device("meta"):
        model = HGRNBitForCausalLM(HGRNBitConfig(**config.to_dict()))
    state = {name.removeprefix("model."): value for name, value in weights.items()}
    model.save_pretrained(folder, state_dict=state)

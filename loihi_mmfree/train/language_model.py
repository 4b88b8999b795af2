"""The float model as what is trained, and the folder of Hugging Face that a model becomes."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.utils import logging

from loihi_mmfree.checkpoint import Checkpoint, ModelConfig
from loihi_mmfree.hf import HGRNBitConfig, HGRNBitForCausalLM
from loihi_mmfree.model.ternary import BitLinear
from loihi_mmfree.train.folder import TOKENIZER
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
        model.load_state_dict({name: base.tensor(name) for name in model.state_dict()})
    embedding = model.model.embeddings.weight
    weights = (each.weight for each in model.modules() if isinstance(each, BitLinear))
    matrices = tuple(each for each in weights if isinstance(each, nn.Parameter) and each is not embedding)

    def write(folder: Path, state: Mapping[str, Tensor]) -> None:
        write_model(folder, config, {name.removeprefix("model."): value for name, value in state.items()})

    return Learner(NextToken(model), matrices, write)


def write_model(folder: Path, config: ModelConfig, state: Mapping[str, Tensor]) -> None:
    """Write weights by their upstream names as a folder of Hugging Face, in float32.

    Parameters
    ----------
    folder : Path
        Holds the tokenizer already.
    config : ModelConfig
    state : mapping of str to Tensor
    """
    with torch.device("meta"):
        model = HGRNBitForCausalLM(HGRNBitConfig(**config.to_dict()))
    with _without_progress_bars():
        model.save_pretrained(folder, state_dict=dict(state))
    for each in folder.glob("*.safetensors"):
        # The library lets nobody but their owner read them.
        shutil.copymode(folder / TOKENIZER, each)


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Leave out what transformers shows of its own while it writes."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

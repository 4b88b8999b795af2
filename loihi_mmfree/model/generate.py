"""Running the float model: greedy continuation, and the form in which evaluations call a model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from loihi_mmfree.model.language_model import MatMulFreeLM


@torch.no_grad()
def greedy_generate(model: MatMulFreeLM, ids: Tensor, count: int) -> Tensor:
    """Continue a text with the likeliest token each time.

    Parameters
    ----------
    model : MatMulFreeLM
    ids : Tensor of int [B, T]
        The prompt, T >= 1.
    count : int
        How many tokens to add.

    Returns
    -------
    Tensor of int64 [B, count]
        The new tokens. An end-of-text token does not end it.
    """
    logits, state = model(ids)
    generated: list[Tensor] = []
    while len(generated) < count:
        if generated:
            logits, state = model(generated[-1][:, None], state)
        generated.append(logits[:, -1].argmax(-1))
    return torch.stack(generated, 1) if generated else ids.new_empty((ids.shape[0], 0))


def logits_function(model: MatMulFreeLM) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from token ids [T] to logits [T, V], which starts from an empty state each time."""
    device = model.model.embeddings.weight.device

    @torch.no_grad()
    def logits(ids: np.ndarray) -> np.ndarray:
        batch = torch.as_tensor(np.asarray(ids, dtype=np.int64), device=device)[None]
        return model(batch)[0][0].cpu().numpy()

    return logits

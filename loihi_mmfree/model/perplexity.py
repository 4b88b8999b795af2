"""Perplexity of anything that maps token ids to logits. Needs NumPy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from loihi_mmfree.errors import UsageError


def perplexity(
    logits_of: Callable[[np.ndarray], Any],
    ids: Sequence[int] | np.ndarray,
    window: int = 512,
    windows: int | None = 64,
) -> float:
    """Return exp of the mean negative log likelihood per predicted token.

    The text is cut into windows that do not overlap. The model starts each with an empty state, and
    within it every token but the first is predicted from those before it.

    Parameters
    ----------
    logits_of : callable
        Maps ids [T] to real-valued logits [T, V] (an array, or a tensor on the CPU); row t is the
        prediction after reading ids[t].
    ids : sequence of int
        The text.
    window : int
        Tokens in a window, at least 2. A remainder shorter than that is left out, unless it is all.
    windows : int or None
        How many windows to use; None uses all.

    Raises
    ------
    UsageError
        There is nothing to predict.
    """
    losses = [
        token_losses(np.asarray(logits_of(piece))[:-1], piece[1:]) for piece in text_windows(ids, window, windows)
    ]
    return math.exp(float(np.concatenate(losses).mean()))


def text_windows(
    ids: Sequence[int] | np.ndarray, window: int = 512, windows: int | None = 64
) -> Iterator[np.ndarray]:
    """Yield the windows [window] of a text (see `perplexity`)."""
    text = np.asarray(ids)
    if window < 2 or len(text) < 2 or (windows is not None and windows < 1):
        raise UsageError(
            f"perplexity needs a text and windows of 2 tokens or more, found {len(text)} tokens, "
            f"windows of {window}, {windows} of them"
        )
    available = max(1, len(text) // window)
    for index in range(available if windows is None else min(windows, available)):
        yield text[index * window : (index + 1) * window]


def token_losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the negative log likelihood [T] of targets [T] under logits [T, V], in float64 nats."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(-1, keepdims=True)
    return np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(targets)), targets]

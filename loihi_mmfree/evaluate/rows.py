"""From the logits of some tokens to numbers of each: the same bits for any number of rows.

Log probabilities are taken in float64. NumPy adds up every row by itself; PyTorch on a GPU does not, so there a
row is added up in halves, whose order nothing can change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Logits = NDArray[Any] | Tensor

TOGETHER = 64
"""TokenScores of which a few float64 copies are held at once; on a GPU so many times eight."""


@dataclass(frozen=True)
class TokenScores:
    """Numbers of each of some predictions.

    Parameters
    ----------
    losses : float64 array [n]
        Negative log likelihood of the token that came, in nats.
    top : int64 array [n]
        The likeliest token; of several the one with the lowest id.
    """

    losses: NDArray[np.float64]
    top: NDArray[np.int64]


def parts(count: int, on_gpu: bool) -> Iterator[slice]:
    """Give the slices in which so many rows are scored."""
    step = TOGETHER * 8 if on_gpu else TOGETHER
    for begin in range(0, count, step):
        yield slice(begin, min(begin + step, count))


def score(logits: Logits, log_probabilities: Logits, targets: NDArray[np.int64]) -> TokenScores:
    """Return the numbers of rows of logits [n, V], with their log probabilities, of the tokens `targets` [n]."""
    if isinstance(log_probabilities, np.ndarray):
        return TokenScores(-log_probabilities[np.arange(len(targets)), targets], np.argmax(logits, -1))
    import torch

    columns = torch.from_numpy(targets).to(log_probabilities.device)
    picked = log_probabilities.gather(1, columns[:, None])[:, 0]
    return TokenScores(-picked.cpu().numpy(), logits.argmax(-1).cpu().numpy())


def log_softmax(logits: Logits, scale: float) -> Logits:
    """Return the log probabilities [n, V], float64, of logits [n, V] times `scale`."""
    if isinstance(logits, np.ndarray):
        values = logits.astype(np.float64)
        values *= scale
        values -= values.max(-1, keepdims=True)
        values -= np.log(np.exp(values).sum(-1, keepdims=True))
        return values
    shifted = logits.double() * scale
    shifted -= shifted.amax(-1, keepdim=True)
    shifted -= _sums(shifted.exp()).log()[:, None]
    return shifted


def divergence(expected: Any, found: Any) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergences [n] in nats of `found` from `expected`, log probabilities [n, V]."""
    if isinstance(expected, np.ndarray):
        return (np.exp(expected) * (expected - found)).sum(-1)
    return _sums(expected.exp() * (expected - found)).cpu().numpy()


def _sums(values: Tensor) -> Tensor:
    """The sum of every row [n, V], in an order that depends on V alone."""
    import torch

    width = values.shape[1]
    while width > 1:
        half = (width + 1) // 2
        folded = values[:, :half].clone()
        folded[:, : width - half] += values[:, half:width]
        values, width = folded, half
    return torch.squeeze(values, 1)

"""From integer logits to the next token."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.errors import UsageError

LEAST_TEMPERATURE = 1e-6
"""Far below what differs from greedy, and far above what a float64 logit can be divided by."""


@dataclass
class Sampler:
    """Chooses tokens; greedy unless a temperature is given.

    Parameters
    ----------
    temperature : float
        0 is greedy: the largest logit, the lowest id among equals.
    top_k : int, optional
        Keep the k most likely tokens.
    top_p : float, optional
        Keep the most likely tokens that together reach this probability.
    seed : int
        The same seed, logits and settings give the same tokens.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    _generator: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.temperature != 0 and not LEAST_TEMPERATURE <= self.temperature < float("inf"):
            raise UsageError(
                f"temperature is {self.temperature}; it must be 0 (greedy) or at least {LEAST_TEMPERATURE}"
            )
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top-k is {self.top_k}; it must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top-p is {self.top_p}; it must be above 0 and at most 1")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}; it must not be negative")
        if self.temperature == 0 and (self.top_k or self.top_p):
            raise UsageError("top-k and top-p need a temperature above 0; without one, decoding is greedy")
        self._generator = np.random.Generator(np.random.PCG64(self.seed))

    def choose(self, logits: NDArray[np.int32], scale: float) -> int:
        """Return the next token.

        Parameters
        ----------
        logits : int32 array [V]
        scale : float
            Real value of one unit.
        """
        if self.temperature == 0:
            return int(np.argmax(logits))
        # A stable order makes ties and so the whole draw reproducible.
        order = np.argsort(-logits.astype(np.int64), kind="stable")
        real = logits[order].astype(np.float64) * (scale / self.temperature)
        probabilities = np.exp(real - real[0])
        probabilities /= probabilities.sum()
        kept = len(order) if self.top_k is None else min(self.top_k, len(order))
        if self.top_p is not None:
            kept = min(kept, int(np.searchsorted(np.cumsum(probabilities), self.top_p)) + 1)
        cumulative = np.cumsum(probabilities[:kept])
        draw = self._generator.random() * cumulative[-1]
        return int(order[min(int(np.searchsorted(cumulative, draw, side="right")), kept - 1)])

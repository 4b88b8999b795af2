"""Intervals by resampling, and McNemar's test."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

RESAMPLES, SEED = 2000, 0
CONFIDENCE = 0.95

Interval = tuple[float, float]


def resampled_sums(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums [resamples, k] of columns [n, k] over units drawn with replacement, from a fixed seed.

    Units are what is independent: windows or items, not tokens.
    """
    random, count = np.random.default_rng(SEED), len(columns)
    return np.stack([columns[random.integers(count, size=count)].sum(0) for _ in range(RESAMPLES)])


def interval(values: NDArray[np.float64]) -> Interval:
    """Return the percentile interval of `CONFIDENCE` of a statistic of the resamples [resamples]."""
    rest = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [rest, 100 - rest])
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return McNemar's exact two-sided p: how likely so unequal numbers are, were both as likely.

    Parameters
    ----------
    only_first, only_second : int
        Items that one got right and the other did not.
    """
    count = only_first + only_second
    term, tail = 1, 0
    for chosen in range(min(only_first, only_second) + 1):
        tail += term
        term = term * (count - chosen) // (chosen + 1)
    return float(min(Fraction(1), Fraction(2 * tail, 2**count)))


def perplexity(loss: float) -> float:
    """Return exp of a mean loss; infinite where no float is so large."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf

"""What is kept of a text that was scored: sums over its predicted tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loihi_mmfree.evaluate.scorer import Paired, TextScore


@dataclass(frozen=True)
class Beside:
    """What the float model says of the same tokens, and how the integers differ from it.

    Parameters
    ----------
    loss : float
    right : int
        As in `Sums`, of the float model.
    same : int
        Tokens of which both have the same likeliest one.
    divergence : float
        Kullback-Leibler divergence of the integers from the float model, in nats.
    absolute, squares, largest : float
        Of the difference in loss of a token, integers less float: sum of magnitudes, sum of squares, and largest
        magnitude.
    """

    loss: float
    right: int
    same: int
    divergence: float
    absolute: float
    squares: float
    largest: float


@dataclass(frozen=True)
class Sums:
    """A text.

    Parameters
    ----------
    tokens : int
        Predicted tokens.
    loss : float
        Negative log likelihood of all of them, in nats.
    right : int
        Those that were the likeliest.
    beside : Beside, optional
    """

    tokens: int
    loss: float
    right: int
    beside: Beside | None = None

    @classmethod
    def of(cls, score: TextScore) -> Sums:
        """Add up the numbers of a text. Sums are correctly rounded, so no order shows in them."""
        beside = None if score.paired is None else _beside(score, score.paired)
        right = int((score.rows.top == score.targets).sum())
        return cls(len(score.targets), math.fsum(score.rows.losses), right, beside)

    @property
    def reference(self) -> Sums:
        """The float model's sums of the same text."""
        assert self.beside is not None
        return Sums(self.tokens, self.beside.loss, self.beside.right)

    def to_list(self) -> list[float]:
        """Return the numbers in the order of the fields."""
        mine = [self.tokens, self.loss, self.right]
        return mine if self.beside is None else [*mine, *vars(self.beside).values()]

    @classmethod
    def from_list(cls, numbers: Sequence[Any]) -> Sums:
        """Return what `to_list` gave.

        Raises
        ------
        ValueError
            It did not give that.
        """
        if len(numbers) not in (len(_OWN), len(_OWN) + len(_BESIDE)):
            raise ValueError(
                f"{len(numbers)} numbers of a text; expected {len(_OWN)} or {len(_OWN) + len(_BESIDE)}"
            )
        own, rest = numbers[: len(_OWN)], numbers[len(_OWN) :]
        beside = Beside(**_checked(_BESIDE, rest)) if rest else None
        return cls(**_checked(_OWN, own), beside=beside)


_OWN: Mapping[str, type] = {"tokens": int, "loss": float, "right": int}
_BESIDE: Mapping[str, type] = {
    "loss": float, "right": int, "same": int, "divergence": float, "absolute": float, "squares": float,
    "largest": float,
}  # fmt: skip


def _checked(kinds: Mapping[str, type], numbers: Sequence[Any]) -> dict[str, Any]:
    for (name, kind), number in zip(kinds.items(), numbers, strict=True):
        if type(number) not in (int, kind) or not math.isfinite(number):
            raise ValueError(f"{name} of a text is {number!r}; expected {kind.__name__}")
    return {name: kind(number) for (name, kind), number in zip(kinds.items(), numbers, strict=True)}


def _beside(score: TextScore, paired: Paired) -> Beside:
    difference = score.rows.losses - paired.rows.losses
    return Beside(
        loss=math.fsum(paired.rows.losses),
        right=int((paired.rows.top == score.targets).sum()),
        same=int((paired.rows.top == score.rows.top).sum()),
        divergence=math.fsum(paired.divergences),
        absolute=math.fsum(np.abs(difference)),
        squares=math.fsum(difference**2),
        largest=float(np.abs(difference).max()),
    )

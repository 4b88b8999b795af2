"""What a model reads in an evaluation: tokens, and from which on they are to be predicted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree import defaults
from loihi_mmfree.errors import UsageError


@dataclass(frozen=True)
class Text:
    """Tokens that are read from an empty state, and the first one that is predicted.

    Parameters
    ----------
    ids : int64 array [T]
        At least two.
    first : int
        Index of the first predicted token, at least 1; it is predicted from all before it.
    """

    ids: NDArray[np.int64]
    first: int = 1

    @property
    def predicted(self) -> int:
        """Number of predicted tokens."""
        return len(self.ids) - self.first


@dataclass(frozen=True)
class Item:
    """What is scored together and counts as one: a window, or a question with all its answers."""

    texts: tuple[Text, ...]


@dataclass(frozen=True)
class Windows:
    """How a text is cut.

    Parameters
    ----------
    window : int
        Tokens of a window, at least 2.
    stride : int, optional
        Tokens from the beginning of a window to that of the next, at most `window`, which is the default.
    limit : int, optional
        Most windows; all by default.

    Raises
    ------
    UsageError
        A number that no text can be cut by.
    """

    window: int = defaults.WINDOW
    stride: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.window < 2:
            raise UsageError(f"`window={self.window}`: at least 2, one token to read and one to predict")
        if not 1 <= self.step <= self.window:
            raise UsageError(f"`stride={self.step}`: must be 1 to the window, {self.window}; nothing is left out")
        check_limit(self.limit)

    @property
    def step(self) -> int:
        """The stride as used."""
        return self.window if self.stride is None else self.stride

    def cut(self, ids: Sequence[int] | NDArray[np.int64]) -> tuple[Item, ...]:
        """Cut a text; every window starts with an empty state, and a token is predicted once at most.

        In the first window every token but its first is predicted, in the others those behind the window before
        (all but the first, where windows do not overlap). A remainder shorter than a window is left out, unless it
        is the whole text.

        Raises
        ------
        UsageError
            There is nothing to predict.
        """
        text = np.asarray(ids, dtype=np.int64)
        if len(text) < 2:
            raise UsageError(
                f"the text has {len(text)} tokens; perplexity needs 2, since the first is not predicted"
            )
        begins = range(0, max(len(text) - self.window, 0) + 1, self.step)[: self.limit]
        behind = max(1, self.window - self.step)
        return tuple(Item((Text(text[begin : begin + self.window], behind if begin else 1),)) for begin in begins)


def check_limit(limit: int | None) -> None:
    """Refuse a limit below 1.

    Raises
    ------
    UsageError
    """
    if limit is not None and limit < 1:
        raise UsageError(f"`limit={limit}`: at least 1; leave it out for all")


def tokens_sha256(items: Iterable[Item]) -> str:
    """Return a hash of all that is read and predicted, as hexadecimal digits."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(len(item.texts).to_bytes(8, "little"))
        for text in item.texts:
            digest.update(np.array([len(text.ids), text.first, *text.ids], dtype="<i8").tobytes())
    return digest.hexdigest()

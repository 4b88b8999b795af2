"""The text as tokens in a file, and the windows of it that each step reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.checkpoint import ModelConfig, as_tokens
from loihi_mmfree.checkpoint.source import SourceFile
from loihi_mmfree.errors import UsageError
from loihi_mmfree.text import Tokenizer
from loihi_mmfree.train.corpus import DocumentPart
from loihi_mmfree.train.recipe import Recipe


def token_type(model: ModelConfig) -> np.dtype[np.unsignedinteger]:
    """Return how a token is stored: two bytes if that is enough."""
    return np.dtype("<u2" if model.vocab_size <= 2**16 else "<u4")


def write_tokens(
    path: Path,
    pieces: Iterable[DocumentPart],
    tokenizer: Tokenizer,
    model: ModelConfig,
    progress: Callable[[int], None],
) -> tuple[int, str]:
    """Write every document as its tokens, with the token that ends a text behind it.

    Parameters
    ----------
    path : Path
        The file to write.
    pieces : iterable of DocumentPart
    tokenizer : Tokenizer
        Puts in front of a document what it puts in front of a prompt.
    model : ModelConfig
    progress : callable
        Called with the number of characters done.

    Returns
    -------
    tokens : int
    sha256 : str

    Raises
    ------
    UsageError
        A token is not in the model's vocabulary.
    """
    ends = as_tokens(model.eos_token_id)[:1]
    count, done, digest = 0, 0, hashlib.sha256()
    with path.open("wb") as file:
        for piece in pieces:
            ids = [*tokenizer.encode(piece.text, special_tokens=piece.first), *(ends if piece.last else ())]
            array = np.asarray(ids)
            if array.max(initial=0) >= model.vocab_size:
                raise UsageError(
                    f"`tokenizer`: it gives token {array.max()}, and the model's vocabulary ends at "
                    f"{model.vocab_size - 1}; give the model's own"
                )
            stored = array.astype(token_type(model)).tobytes()
            file.write(stored)
            digest.update(stored)
            count, done = count + len(array), done + len(piece.text)
            progress(done)
    return count, digest.hexdigest()


@dataclass(frozen=True)
class TokenWindows:
    """Windows of tokens in the order in which steps read them, which depends on the seed and nothing else.

    Every pass over the text shuffles them anew. The tokens behind the last whole window are not read.

    Parameters
    ----------
    source : SourceFile
        Tokens, one behind the other.
    recipe : Recipe

    Raises
    ------
    UsageError
        There are fewer windows than a step reads.
    """

    source: SourceFile
    recipe: Recipe

    def __post_init__(self) -> None:
        if len(self) < self.recipe.batch:
            tokens = self.source.size // token_type(self.recipe.model).itemsize
            raise UsageError(
                f"`text`: {tokens} tokens are {len(self)} windows of {self.recipe.window}, and a step reads "
                f"{self.recipe.batch}; give more text, or a smaller batch or window in the recipe"
            )

    def __len__(self) -> int:
        return self.source.size // (token_type(self.recipe.model).itemsize * self.recipe.window)

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return what a step reads, int64 [batch, window]; steps are counted from 0."""
        places = np.arange(step * self.recipe.batch, (step + 1) * self.recipe.batch)
        rounds, positions = np.divmod(places, len(self))
        orders = {number: _order(self.recipe.seed, number, len(self)) for number in set(rounds.tolist())}
        return np.stack(
            [self._window(int(orders[number][place])) for number, place in zip(rounds, positions, strict=True)]
        )

    def _window(self, index: int) -> NDArray[np.int64]:
        kind, window = token_type(self.recipe.model), self.recipe.window
        stored = self.source.read(index * window * kind.itemsize, window * kind.itemsize)
        return stored.view(kind).astype(np.int64)


@lru_cache(maxsize=2)
def _order(seed: int, number: int, count: int) -> NDArray[np.int64]:
    """The order of windows in one pass over the text."""
    return np.random.default_rng([seed, number]).permutation(count)

"""Scores texts token by token: one model alone, or a network beside the float model that it was compiled from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.errors import OutOfMemoryError
from loihi_mmfree.evaluate.readers import DeviceMemoryError, FloatReader, Reader
from loihi_mmfree.evaluate.rows import TokenScores, divergence, log_softmax, parts, score
from loihi_mmfree.evaluate.texts import Text
from loihi_mmfree.fixedpoint.interpreter import Counters

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Paired:
    """What the float model says of the same tokens.

    Parameters
    ----------
    rows : TokenScores
    divergences : float64 array [n]
        Kullback-Leibler divergence of the integers' prediction from the float model's, in nats.
    """

    rows: TokenScores
    divergences: NDArray[np.float64]


@dataclass(frozen=True)
class TextScore:
    """Numbers of every predicted token of a text.

    Parameters
    ----------
    targets : int64 array [n]
        The tokens that came.
    rows : TokenScores
    paired : Paired, optional
    """

    targets: NDArray[np.int64]
    rows: TokenScores
    paired: Paired | None = None


class Scorer(Protocol):
    """What scores texts."""

    together: int
    """Items that are scored at once, unless told otherwise."""
    most: int | None
    """Texts that the GPU has memory for, once it had too little."""

    def score(self, texts: Sequence[Text]) -> list[TextScore]:
        """Return the numbers of every text; they do not depend on what is scored together."""

    @property
    def counters(self) -> Counters:
        """Saturations and overflows of all that was scored; nothing of attempts that failed."""

    def close(self) -> None:
        """Release everything."""


class ReadingScorer(Scorer):
    """Scores what a reader reads, and beside it what the float model says.

    Logits are taken as they pass: memory holds those of a few tokens, and a few numbers of each token. Where a GPU
    has too little memory for the texts, half as many are read at once, also from then on.

    Parameters
    ----------
    reader : Reader
    reference : FloatReader, optional
        The float model for the paired comparison.
    """

    def __init__(self, reader: Reader, reference: FloatReader | None = None) -> None:
        self.together = reader.together
        self.most: int | None = None
        self._reader, self._reference = reader, reference
        self._counters = Counters()

    @property
    def counters(self) -> Counters:
        """See `Scorer.counters`."""
        return self._counters

    def score(self, texts: Sequence[Text]) -> list[TextScore]:
        """See `Scorer.score`.

        Raises
        ------
        OutOfMemoryError
            A GPU has too little memory for a single text.
        """
        if self.most is not None and len(texts) > self.most:
            return [
                found
                for begin in range(0, len(texts), self.most)
                for found in self.score(texts[begin : begin + self.most])
            ]
        before = self._reader.counters
        try:
            found = self._score(texts)
        except DeviceMemoryError as error:
            if len(texts) == 1:
                raise OutOfMemoryError(
                    f"a text of {len(texts[0].ids)} tokens alone: {error}; choose a shorter window, a larger GPU, "
                    "or `device='cpu'`"
                ) from error
            self.most = len(texts) // 2
        else:
            self._counters = Counters.total([self._counters, self._reader.counters.since(before)])
            return found
        # Outside of the handler, whose traceback holds what filled the memory.
        _release()
        return self.score(texts)

    def _score(self, texts: Sequence[Text]) -> list[TextScore]:
        sheet = _Sheet(texts, self._reference is not None)
        hidden = None if self._reference is None else self._reference.hidden(texts)

        def take(logits: Any, numbers: NDArray[np.int64], positions: NDArray[np.int64]) -> None:
            wanted = np.flatnonzero(sheet.is_predicted(numbers, positions))
            on_gpu = not isinstance(logits, np.ndarray)
            for part in parts(len(wanted), on_gpu):
                rows = wanted[part]
                self._take(sheet, _picked(logits, rows), numbers[rows], positions[rows], hidden)

        self._reader.read(texts, take)
        return sheet.scores()

    def _take(
        self,
        sheet: _Sheet,
        logits: Any,
        numbers: NDArray[np.int64],
        positions: NDArray[np.int64],
        hidden: Tensor | None,
    ) -> None:
        """Score some rows, and let go of them."""
        places = sheet.places(numbers, positions)
        targets = sheet.targets[places]
        found = log_softmax(logits, self._reader.scale)
        sheet.put(places, score(logits, found, targets))
        if self._reference is not None and hidden is not None:
            real = self._reference.logits(hidden, numbers, positions)
            expected = log_softmax(real, self._reference.scale)
            sheet.put_paired(places, Paired(score(real, expected, targets), divergence(expected, found)))

    def close(self) -> None:
        """Release everything."""
        self._reader.close()


class _Sheet:
    """Where the numbers of some texts are put as they come, one text behind the other."""

    def __init__(self, texts: Sequence[Text], paired: bool) -> None:
        self._texts = texts
        self._first = np.array([text.first for text in texts])
        self._begin = np.cumsum([0, *(text.predicted for text in texts)])
        self.targets = np.concatenate([text.ids[text.first :] for text in texts])
        self._rows = _empty_rows(len(self.targets))
        self._paired = Paired(_empty_rows(len(self.targets)), np.empty(len(self.targets))) if paired else None

    def is_predicted(self, numbers: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the token behind each of these is one to be predicted."""
        return positions + 1 >= self._first[numbers]

    def places(self, numbers: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the numbers of the tokens behind these go."""
        return self._begin[numbers] + positions + 1 - self._first[numbers]

    def put(self, places: NDArray[np.int64], rows: TokenScores) -> None:
        """Take the numbers of some tokens."""
        self._rows.losses[places], self._rows.top[places] = rows.losses, rows.top

    def put_paired(self, places: NDArray[np.int64], paired: Paired) -> None:
        """Take what the float model says of some tokens."""
        assert self._paired is not None
        rows, mine = paired.rows, self._paired.rows
        mine.losses[places], mine.top[places] = rows.losses, rows.top
        self._paired.divergences[places] = paired.divergences

    def scores(self) -> list[TextScore]:
        """Return the numbers of every text."""
        spans = [slice(*span) for span in zip(self._begin[:-1], self._begin[1:], strict=True)]
        return [TextScore(self.targets[span], _part(self._rows, span), self._pair(span)) for span in spans]

    def _pair(self, span: slice) -> Paired | None:
        if self._paired is None:
            return None
        return Paired(_part(self._paired.rows, span), self._paired.divergences[span])


def _empty_rows(count: int) -> TokenScores:
    # Not a number until it is put: what was left out would show.
    return TokenScores(np.full(count, np.nan), np.full(count, -1))


def _part(rows: TokenScores, span: slice) -> TokenScores:
    return TokenScores(rows.losses[span], rows.top[span])


def _picked(logits: Any, rows: NDArray[np.int64]) -> Any:
    """Some rows of an array or a tensor."""
    if len(rows) == len(logits):
        return logits
    if isinstance(logits, np.ndarray):
        return logits[rows]
    import torch

    return logits[torch.from_numpy(rows).to(logits.device)]


def _release() -> None:
    """Give memory back that PyTorch keeps for later."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()

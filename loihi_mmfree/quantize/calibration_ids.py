"""What is calibrated on: token ids of the built-in text, or of one that is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import read_regular, read_text
from loihi_mmfree.text import Tokenizer
from loihi_mmfree.untrusted import parse_npy

# Length of the windows of the built-in text, and the seed of the random ids that stand in for one.
WINDOW = 256
RANDOM_SEED = 0
LARGEST_CALIBRATION_BYTES = 2**26
"""Of a file of text or token ids; more is no better and takes hours."""


@dataclass(frozen=True)
class CalibrationIds:
    """Token ids to calibrate with.

    Parameters
    ----------
    ids : int64 array [W, T]
        Windows of tokens.
    source : str
        Where they come from, for reports.
    warning : str or None
        What the user should know about them.
    between : tuple of int64 array
        What of the text lies between the windows and behind them.
    """

    ids: NDArray[np.int64]
    source: str
    warning: str | None = None
    between: tuple[NDArray[np.int64], ...] = ()


def checked_windows(ids: NDArray[np.integer[Any]], vocab_size: int) -> NDArray[np.int64]:
    """Return ids as int64 [W, T], or say what is wrong with them."""
    ids = np.asarray(ids)
    if ids.ndim not in (1, 2) or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise UsageError(
            "calibration: token ids must be whole numbers of shape [windows, tokens] or [tokens], at least "
            f"one; found {ids.dtype} of shape {list(ids.shape)}"
        )
    smallest, largest = int(ids.min()), int(ids.max())
    if smallest < 0 or largest >= vocab_size:
        raise UsageError(
            f"calibration: token ids range from {smallest} to {largest}, the vocabulary from 0 to "
            f"{vocab_size - 1}; use the tokenizer of this checkpoint"
        )
    return np.atleast_2d(ids).astype(np.int64)


def calibration_ids(
    tokenizer_path: Path | None,
    vocab_size: int,
    tokens: int = 4096,
    text: str | None = None,
) -> CalibrationIds:
    """Return ids to calibrate with: windows spread evenly over a text, or random ids without a tokenizer.

    Parameters
    ----------
    tokenizer_path : Path or None
        A `tokenizer.json` or `tokenizer.model`.
    vocab_size : int
        Number of tokens of the model.
    tokens : int
        How many to return at most; a short text gives fewer.
    text : str, optional
        A text of the user's. The default is built in: ten passages of public-domain prose and verse
        (Austen, Dickens, Conan Doyle, Wells, Stoker, Burroughs, Shakespeare; from Project Gutenberg).

    Raises
    ------
    UsageError
        The text is empty, or its tokens are not in the model's vocabulary.
    CheckpointError
        The tokenizer cannot be read.
    """
    if tokens < 1:
        raise UsageError(f"calibration: at least one token is needed, found {tokens}")
    if tokenizer_path is None:
        if text is not None:
            raise UsageError("calibration: there is no tokenizer.json to read the text with; give token ids")
        return _random_ids(vocab_size, tokens)
    if text is not None and not text.strip():
        raise UsageError("calibration: the text is empty")
    source = "built-in text" if text is None else "given text"
    tokenizer = Tokenizer(tokenizer_path)
    ids = tokenizer.encode(_built_in_text() if text is None else text)
    windows, between = _spread_windows(checked_windows(np.array(ids), vocab_size)[0], tokens)
    padding = (
        f"{vocab_size - tokenizer.size} of the model's {vocab_size} tokens have no text in the tokenizer"
        if tokenizer.size < vocab_size
        else None
    )
    return CalibrationIds(windows, source, padding, between)


def ids_given(
    given: Sequence[int] | NDArray[np.int64] | Path | None, checkpoint: str | Path, tokens: int
) -> CalibrationIds | None:
    """Return what the user gave to calibrate on; None if nothing.

    Parameters
    ----------
    given : sequence of int, or Path, optional
        Ids, a .npy file of them, or a text file.
    checkpoint : str or Path
        Whose tokenizer reads the text.
    tokens : int
        At most so many of a text.

    Raises
    ------
    UsageError
        The file cannot be read.
    """
    if given is None:
        return None
    if not isinstance(given, Path):
        return CalibrationIds(np.asarray(given), "given ids")
    opened = open_checkpoint(checkpoint)
    if given.suffix == ".npy":
        try:
            return CalibrationIds(parse_npy(read_regular(given, LARGEST_CALIBRATION_BYTES)), str(given))
        except (OSError, ValueError) as error:
            raise UsageError(f"`calibration` {given}: cannot be read: {error}") from error
    text = read_text(given, LARGEST_CALIBRATION_BYTES, "`calibration`")
    return calibration_ids(opened.tokenizer_path, opened.config.vocab_size, tokens, text)


def _built_in_text() -> str:
    return resources.files("loihi_mmfree").joinpath("data/calibration.txt").read_text(encoding="utf-8")


def _spread_windows(
    ids: NDArray[np.int64], tokens: int
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], ...]]:
    """Return windows [W, T] of WINDOW tokens, or a shorter one, spread evenly over the ids, and what is left."""
    length = min(WINDOW, tokens, ids.size)
    count = min(tokens, ids.size) // length
    starts = np.linspace(0, ids.size - length, count).astype(np.int64)
    ends = [*starts[1:], ids.size]
    between = (ids[start + length : end] for start, end in zip(starts, ends, strict=True))
    return np.stack([ids[start : start + length] for start in starts]), tuple(
        each for each in between if each.size
    )


def _random_ids(vocab_size: int, tokens: int) -> CalibrationIds:
    """Return seeded random ids and a warning."""
    length = min(WINDOW, tokens)
    ids = np.random.default_rng(RANDOM_SEED).integers(vocab_size, size=(tokens // length, length))
    warning = (
        "the checkpoint has no tokenizer.json, so that the formats are calibrated on random tokens and may "
        "fit real text badly; put the tokenizer beside the weights, or give token ids"
    )
    return CalibrationIds(ids, f"random ids, seed {RANDOM_SEED}", warning)

"""Calibration: one float pass over a little text chooses the format of every site, one block at a time."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.checkpoint import Checkpoint, expected_shapes, open_checkpoint
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import read_regular, read_text
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.quantize.libraries import import_libraries
from loihi_mmfree.quantize.parameters import TernaryMatrix, gate_lower_bounds
from loihi_mmfree.text import Tokenizer
from loihi_mmfree.untrusted import parse_npy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from loihi_mmfree.quantize.quantizers import CalibratedScaling

# Tokens that go through a block at once; bounds the memory of large models.
BATCH_TOKENS = 4096
# Numbers in the largest tensor of a model that is calibrated on one thread.
LARGEST_FOR_ONE_THREAD = 1 << 20
# Length of the windows of the built-in text, and the seed of the random ids that stand in for one.
WINDOW = 256
RANDOM_SEED = 0
LARGEST_CALIBRATION_BYTES = 2**26
"""Of a file of text or token ids; more is no better and takes hours."""


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Parameters
    ----------
    config : QuantizationConfig
        The widths it was made for.
    formats : mapping of str to QFormat
        The format of each site.
    maxima : mapping of str to float
        The largest magnitude seen at each site.
    thresholds : mapping of str to int
        Of sites that have one: values of smaller magnitude, in units of the format, become zero.
    projections : mapping of str to TernaryMatrix
        The weights as they were quantized on the way, by upstream's name.
    tokens : int
        Number of tokens read.
    """

    config: QuantizationConfig
    formats: Mapping[str, QFormat]
    maxima: Mapping[str, float]
    thresholds: Mapping[str, int]
    projections: Mapping[str, TernaryMatrix]
    tokens: int


@dataclass(frozen=True)
class Observed:
    """What a text brought to every site: enough to choose formats of any width.

    Parameters
    ----------
    config : QuantizationConfig
        How formats are chosen.
    scalings : mapping of str to CalibratedScaling
        What was seen at each site.
    projections : mapping of str to TernaryMatrix
        The weights as they were quantized on the way, by upstream's name.
    tokens : int
        Number of tokens read.
    """

    config: QuantizationConfig
    scalings: Mapping[str, CalibratedScaling]
    projections: Mapping[str, TernaryMatrix]
    tokens: int

    @property
    def bits(self) -> Mapping[str, int]:
        """The width of each site in the configuration."""
        return {site: each.bits for site, each in self.scalings.items()}

    def calibration(self, bits: Mapping[str, int] | None = None) -> Calibration:
        """Return the formats, of the widths in the configuration or of others.

        Raises
        ------
        CheckpointError
            A site saw values that are not finite; the message names it.
        """
        widths = bits or self.bits
        for each in self.scalings.values():
            each.qformat()
        formats = {site: each.suiting_format(widths[site]) for site, each in self.scalings.items()}
        thresholds = {site: each.suiting_threshold(formats[site]) for site, each in self.scalings.items()}
        return Calibration(
            self.config,
            formats,
            {site: each.maximum.item() for site, each in self.scalings.items()},
            {site: threshold for site, threshold in thresholds.items() if threshold},
            self.projections,
            self.tokens,
        )


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


def calibrate(
    checkpoint: Checkpoint,
    ids: NDArray[np.integer[Any]],
    config: QuantizationConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Choose the format of every site from what a text brings there: see `observe`."""
    return observe(checkpoint, ids, config, progress).calibration()


def observe(
    checkpoint: Checkpoint,
    ids: NDArray[np.integer[Any]],
    config: QuantizationConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Observed:
    """Take note of what a text brings to every site, from which formats are chosen.

    Inputs of projections take the format with the least squared error, all other sites the one that covers the
    largest magnitude with headroom, unless a rule of the configuration says otherwise. Weights are ternary,
    activations stay float. Only one block is in memory at a time: all tokens go through it, its formats are read,
    and its float output goes on to the next.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : int array [W, T] or [T]
        Token ids, in windows that do not see each other.
    config : QuantizationConfig
    progress : callable, optional
        Called as progress(done, total) after each of the L + 2 parts: embedding, blocks, head.

    Raises
    ------
    UsageError
        The ids are empty, not integers, or outside the vocabulary.
    CheckpointError
        A site sees values that are not finite; the message names it.
    """
    import_libraries()
    import torch

    from loihi_mmfree.quantize.blocks import (
        freeze_projections,
        load_block,
        load_embedding,
        load_head,
        quantizers,
    )

    windows = torch.from_numpy(_checked_windows(ids, checkpoint.config.vocab_size))
    bounds = torch.from_numpy(gate_lower_bounds(checkpoint)).float()
    total = checkpoint.config.num_hidden_layers + 2
    found: dict[str, CalibratedScaling] = {}
    projections: dict[str, TernaryMatrix] = {}

    def finish(part: nn.Module, done: int) -> None:
        found.update((quantizer.site, quantizer.scaling) for quantizer in quantizers(part))
        if progress is not None:
            progress(done, total)

    with torch.no_grad(), _threads_for(checkpoint):
        embedding = load_embedding(checkpoint, config)
        with observing(embedding):
            embedding.output(embedding.weight)
            residual = embedding(windows)
        finish(embedding, 1)
        for layer, bound in enumerate(bounds):
            block = load_block(checkpoint, layer, config)
            projections |= freeze_projections(block, f"model.layers.{layer}.")
            with observing(block):
                residual = torch.cat([block(batch, bound) for batch in _batches(residual)])
            finish(block, layer + 2)
        head = load_head(checkpoint, config)
        projections |= freeze_projections(head, "")
        with observing(head):
            for batch in _batches(residual):
                head.lm_head.quantized_input(head.norm(batch))
        finish(head, total)
    config.require_matches(found)
    return Observed(config, found, projections, windows.numel())


@contextmanager
def observing(module: nn.Module) -> Iterator[None]:
    """Let every quantizer of activations in a module note what passes through it, and take its format at the end.

    Activations pass unchanged. Weights stay ternary, unlike in Brevitas' own `calibration_mode`: without them this
    is another model.
    """
    import_libraries()
    from loihi_mmfree.quantize.blocks import quantizers

    found = [quantizer.scaling for quantizer in quantizers(module)]
    for each in found:
        each.collect_stats_steps = sys.maxsize
    try:
        yield
    finally:
        for each in found:
            each.init_scale()


@contextmanager
def _threads_for(checkpoint: Checkpoint) -> Iterator[None]:
    """Keep torch to one thread where all matrices are small: more would only wait for each other."""
    import torch

    before = torch.get_num_threads()
    shapes = expected_shapes(checkpoint.config)
    if max(map(math.prod, shapes.values())) <= LARGEST_FOR_ONE_THREAD:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batches(residual: Tensor) -> tuple[Tensor, ...]:
    """Split [W, T, H] along the windows into pieces of about BATCH_TOKENS tokens."""
    return residual.split(max(1, BATCH_TOKENS // residual.shape[1]))


def _checked_windows(ids: NDArray[np.integer[Any]], vocab_size: int) -> NDArray[np.int64]:
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
    windows, between = _spread_windows(_checked_windows(np.array(ids), vocab_size)[0], tokens)
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

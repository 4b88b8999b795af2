"""Calibration: one float pass over a little text chooses the format of every site, one block at a time."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.checkpoint import Checkpoint, expected_shapes
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.quantize.calibration_ids import checked_windows
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.quantize.libraries import import_libraries
from loihi_mmfree.quantize.parameters import TernaryMatrix, gate_lower_bounds

if TYPE_CHECKING:
    from torch import Tensor, nn

    from loihi_mmfree.quantize.quantizers import CalibratedScaling

# Tokens that go through a block at once; bounds the memory of large models.
BATCH_TOKENS = 4096
# Numbers in the largest tensor of a model that is calibrated on one thread.
LARGEST_FOR_ONE_THREAD = 1 << 20


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

    def settled(self) -> list[CalibratedScaling]:
        """Return what was seen, all of it finite.

        Raises
        ------
        CheckpointError
            A site saw values that are not finite; the message names it.
        """
        for each in self.scalings.values():
            each.qformat()
        return list(self.scalings.values())

    def calibration(self, bits: Mapping[str, int] | None = None) -> Calibration:
        """Return the formats, of the widths in the configuration or of others.

        Raises
        ------
        CheckpointError
            A site saw values that are not finite; the message names it.
        """
        widths = bits or self.bits
        self.settled()
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


def calibrate(
    checkpoint: Checkpoint,
    ids: NDArray[np.integer[Any]],
    config: QuantizationConfig,
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Calibration:
    """Choose the format of every site from what a text brings there: see `observe`."""
    return observe(checkpoint, ids, config, progress, device).calibration()


def observe(
    checkpoint: Checkpoint,
    ids: NDArray[np.integer[Any]],
    config: QuantizationConfig,
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
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
    device : str
        Where PyTorch computes. Another device than a processor has other last bits: where these could choose
        another format or threshold, all is observed anew on the processor, so that the formats are the same.

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

    windows = torch.from_numpy(checked_windows(ids, checkpoint.config.vocab_size)).to(device)
    bounds = torch.from_numpy(gate_lower_bounds(checkpoint)).float().to(device)
    total = checkpoint.config.num_hidden_layers + 2
    found: dict[str, CalibratedScaling] = {}
    projections: dict[str, TernaryMatrix] = {}

    def finish(part: nn.Module, done: int) -> None:
        found.update((quantizer.site, quantizer.scaling) for quantizer in quantizers(part))
        if progress is not None:
            progress(done, total)

    with torch.no_grad(), _threads_for(checkpoint):
        embedding = load_embedding(checkpoint, config).to(device)
        with observing(embedding):
            embedding.output(embedding.weight)
            residual = embedding(windows)
        finish(embedding, 1)
        for layer, bound in enumerate(bounds):
            block = load_block(checkpoint, layer, config)
            projections |= freeze_projections(block, f"model.layers.{layer}.")
            block.to(device)
            with observing(block):
                residual = torch.cat([block(batch, bound) for batch in _batches(residual)])
            finish(block, layer + 2)
        head = load_head(checkpoint, config)
        projections |= freeze_projections(head, "")
        head.to(device)
        with observing(head):
            for batch in _batches(residual):
                head.lm_head.quantized_input(head.norm(batch))
        finish(head, total)
    config.require_matches(found)
    observed = Observed(config, found, projections, windows.numel())
    if windows.device.type != "cpu" and any(each.is_close_call() for each in observed.settled()):
        return observe(checkpoint, ids, config, progress)
    return observed


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

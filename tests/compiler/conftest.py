"""Small random checkpoints of any shape, and one of them calibrated and lowered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.graph import Graph
from loihi_mmfree.compiler.layers import layer_graph
from loihi_mmfree.compiler.passes.balance_delays import balance_delays
from loihi_mmfree.compiler.passes.drop_gate_norm import drop_gate_norm
from loihi_mmfree.compiler.passes.lower import lower
from loihi_mmfree.compiler.passes.merge_norms import merge_norms
from loihi_mmfree.compiler.passes.share_statistics import share_statistics
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.loihi2.hardware import LOIHI2
from loihi_mmfree.quantize.calibration import calibrate
from loihi_mmfree.quantize.config import QuantizationConfig


@dataclass(frozen=True)
class Lowered:
    """A network at each stage of its compilation.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : int64 array [T]
        What it was calibrated on.
    formats : mapping of str to QFormat
        What the calibration chose.
    layers : Graph
        After the passes over layers.
    unscheduled : Graph
        Synapses and groups, before delays are put in.
    graph : Graph
        Scheduled.
    """

    checkpoint: Checkpoint
    ids: np.ndarray
    formats: Mapping[str, QFormat]
    layers: Graph
    unscheduled: Graph
    graph: Graph


@pytest.fixture(scope="session")
def lower_checkpoint() -> Callable[..., Lowered]:
    """A function that takes a checkpoint through the whole chain; keywords set the widths."""

    def run(checkpoint: Checkpoint, **widths: int) -> Lowered:
        ids = np.random.default_rng(1).integers(checkpoint.config.vocab_size, size=48)
        calibration = calibrate(checkpoint, ids, QuantizationConfig(**widths))
        layers = share_statistics(drop_gate_norm(merge_norms(layer_graph(checkpoint.config))))
        unscheduled = lower(layers, checkpoint, calibration.formats, LOIHI2)
        return Lowered(
            checkpoint, ids, calibration.formats, layers, unscheduled, balance_delays(unscheduled, LOIHI2)
        )

    return run


@pytest.fixture(scope="session")
def lowered(make_checkpoint: Callable[..., Checkpoint], lower_checkpoint: Callable[..., Lowered]) -> Lowered:
    """A random network of two blocks, lowered with the default widths. Read it only."""
    return lower_checkpoint(make_checkpoint())

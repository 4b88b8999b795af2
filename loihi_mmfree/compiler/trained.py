"""Checkpoints that were trained for their formats: what is compiled is what was trained."""

from __future__ import annotations

from dataclasses import replace

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.errors import UsageError
from loihi_mmfree.quantize.calibration import Calibration
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.quantize.formats_file import FORMATS, TrainedFormats


def with_trained_formats(
    config: CompileConfig, checkpoint: Checkpoint, calibrates: bool
) -> tuple[CompileConfig, Calibration | None]:
    """Return settings with the widths that a checkpoint was trained for, and its formats; or None for these.

    Parameters
    ----------
    config : CompileConfig
    checkpoint : Checkpoint
    calibrates : bool
        Whether the user gave something to calibrate on.

    Raises
    ------
    UsageError
        Other formats were asked for.
    CheckpointError
        The file of formats is damaged.
    """
    trained = TrainedFormats.beside(checkpoint.folder)
    if trained is None:
        return config, None
    if calibrates or config.quantization not in (QuantizationConfig(), trained.config):
        raise UsageError(
            f"{checkpoint.folder}: was trained for the formats in {FORMATS}, and is compiled with those; leave "
            f"`calibration` and settings of quantization out, or move {FORMATS} away to calibrate anew"
        )
    found = Calibration(trained.config, trained.formats, {}, trained.thresholds, {}, tokens=0)
    return replace(config, quantization=trained.config), found

"""Checkpoint files on disk become a `ModelConfig` and named tensors. Nothing in a file is executed."""

from loihi_mmfree.checkpoint.config import PUBLISHED_CONFIGS, ModelConfig
from loihi_mmfree.checkpoint.loader import Checkpoint, open_checkpoint
from loihi_mmfree.checkpoint.tensors import expected_shapes, parameter_count

__all__ = [
    "PUBLISHED_CONFIGS",
    "Checkpoint",
    "ModelConfig",
    "expected_shapes",
    "open_checkpoint",
    "parameter_count",
]

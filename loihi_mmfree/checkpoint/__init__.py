"""Checkpoint files on disk become a `ModelConfig` and named tensors. Nothing in a file is executed."""

from loihi_mmfree.checkpoint.config import PUBLISHED_CONFIGS, ModelConfig, as_tokens
from loihi_mmfree.checkpoint.loader import TERNARY_SCALES, Checkpoint, open_checkpoint
from loihi_mmfree.checkpoint.tensors import expected_shapes, parameter_count

__all__ = [
    "PUBLISHED_CONFIGS",
    "TERNARY_SCALES",
    "Checkpoint",
    "ModelConfig",
    "as_tokens",
    "expected_shapes",
    "open_checkpoint",
    "parameter_count",
]

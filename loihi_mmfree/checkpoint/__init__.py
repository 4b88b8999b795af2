"""Checkpoint files on disk become a `ModelConfig` and named tensors. Nothing in a file is executed."""

from loihi_mmfree.checkpoint.config import (
    BIT_LINEAR_EPSILON,
    BIT_LINEAR_SMALLEST,
    PUBLISHED_CONFIGS,
    ModelConfig,
    as_tokens,
)
from loihi_mmfree.checkpoint.loader import TERNARY_SCALES, Checkpoint, open_checkpoint
from loihi_mmfree.checkpoint.lower_bounds import cumulative_lower_bounds
from loihi_mmfree.checkpoint.tensors import expected_shapes, parameter_count

__all__ = [
    "BIT_LINEAR_EPSILON",
    "BIT_LINEAR_SMALLEST",
    "PUBLISHED_CONFIGS",
    "TERNARY_SCALES",
    "Checkpoint",
    "ModelConfig",
    "as_tokens",
    "cumulative_lower_bounds",
    "expected_shapes",
    "open_checkpoint",
    "parameter_count",
]

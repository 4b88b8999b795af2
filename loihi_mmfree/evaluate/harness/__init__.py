"""lm-evaluation-harness judges networks and checkpoints: the extra `eval`.

Importing this registers the model `loihi-mmfree`, which runs a network's integers, and teaches the harness's own
model `hf` to read checkpoints; run as a program it is the harness with both:

    python -m loihi_mmfree.evaluate.harness run --model loihi-mmfree --model_args net=NET --tasks arc_easy
    python -m loihi_mmfree.evaluate.harness run --model hf --model_args pretrained=CKPT --tasks arc_easy
"""

import loihi_mmfree.hf  # noqa: F401 (registers checkpoints with transformers)
from loihi_mmfree.evaluate.harness.model import IntegerModel

__all__ = ["IntegerModel"]

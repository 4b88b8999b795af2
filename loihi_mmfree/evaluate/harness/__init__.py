"""A compiled network as a model of lm-evaluation-harness: the extra `eval`.

Importing this registers the model `loihi-mmfree`; run as a program it is lm-evaluation-harness with it:

    python -m loihi_mmfree.evaluate.harness run --model loihi-mmfree --model_args net=NET --tasks arc_easy
"""

from loihi_mmfree.evaluate.harness.model import IntegerModel

__all__ = ["IntegerModel"]

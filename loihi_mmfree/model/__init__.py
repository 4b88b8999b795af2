"""The float MatMul-free language model in plain PyTorch: the reference of all later stages, and trainable."""

from loihi_mmfree.model.generate import greedy_generate, logits_function
from loihi_mmfree.model.language_model import MatMulFreeLM
from loihi_mmfree.model.ternary import ternarize

__all__ = ["MatMulFreeLM", "greedy_generate", "logits_function", "ternarize"]

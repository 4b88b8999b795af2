"""The configuration as transformers wants it; what it means is said by `ModelConfig`."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from loihi_mmfree.checkpoint import ModelConfig
from loihi_mmfree.checkpoint.config import ALIASES, MODEL_TYPE

DEFAULTS: dict[str, Any] = {
    **ModelConfig.from_dict({"model_type": MODEL_TYPE}).to_dict(),
    "intermediate_size": None,
    "attn_mode": "fused_recurrent",
    "hidden_act": "swish",
    "use_short_conv": False,
    "conv_size": 4,
    "share_conv_kernel": True,
    "max_position_embeddings": 2048,
    "use_cache": True,
    "fuse_cross_entropy": False,
    "pad_token_id": None,
}
"""Upstream's fields and their defaults; those that shape no model are kept for upstream to read back.

`fuse_cross_entropy` is false where upstream has true: its fused loss needs Triton and enters no result.
"""
del DEFAULTS["model_type"]
_OF_THE_BASE = ("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings")


class HGRNBitConfig(PretrainedConfig):
    """The configuration of a MatMul-free language model, with upstream's name, fields and defaults.

    Parameters
    ----------
    **values
        Fields of `DEFAULTS`, and whatever else a `config.json` of transformers holds.
    """

    model_type = MODEL_TYPE
    attribute_map = dict(ALIASES)  # noqa: RUF012 (here and below, transformers' own form)
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012

    def __init__(self, **values: Any) -> None:
        for name, default in DEFAULTS.items():
            setattr(self, name, values.pop(name, default))
        # The base class would overwrite these by defaults of its own.
        super().__init__(**{name: getattr(self, name) for name in _OF_THE_BASE}, **values)

    def shape(self) -> ModelConfig:
        """Return the checked configuration.

        Raises
        ------
        UnsupportedModelError, CheckpointError
            See `ModelConfig.from_dict`.
        """
        return ModelConfig.from_dict(self.to_dict(), self.name_or_path or "config")

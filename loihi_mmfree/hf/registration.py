"""Which classes transformers takes for `hgrn_bit`."""

from __future__ import annotations

import warnings

from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from loihi_mmfree.errors import Notice
from loihi_mmfree.hf.configuration import HGRNBitConfig
from loihi_mmfree.hf.modeling import HGRNBitForCausalLM


def register() -> None:
    """Make AutoConfig, AutoModelForCausalLM and AutoTokenizer load `hgrn_bit` with this package.

    Another package's registration, such as upstream's, is replaced, and a `Notice` says whose it was.
    """
    kind = HGRNBitConfig.model_type
    try:
        before = CONFIG_MAPPING[kind]
    except KeyError:
        before = HGRNBitConfig
    if before is not HGRNBitConfig:
        warnings.warn(
            f"{kind} was registered with transformers by {before.__module__}; from now on AutoConfig, "
            "AutoModelForCausalLM and AutoTokenizer load it with loihi_mmfree.hf",
            Notice,
            stacklevel=2,
        )
    AutoConfig.register(kind, HGRNBitConfig, exist_ok=True)
    AutoModelForCausalLM.register(HGRNBitConfig, HGRNBitForCausalLM, exist_ok=True)
    AutoTokenizer.register(HGRNBitConfig, fast_tokenizer_class=PreTrainedTokenizerFast, exist_ok=True)

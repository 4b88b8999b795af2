"""The model as a transformers class: importing this registers `hgrn_bit` with AutoConfig and its like."""

try:
    import transformers  # noqa: F401 (asked for by name, so that its absence can be told)
except ImportError as error:
    raise ImportError(
        f"loihi_mmfree.hf needs transformers 4.50 or later ({error}): pip install 'loihi-mmfree[hf]'"
    ) from error

from loihi_mmfree.hf.cache import RecurrentCache
from loihi_mmfree.hf.configuration import HGRNBitConfig
from loihi_mmfree.hf.modeling import HGRNBitForCausalLM
from loihi_mmfree.hf.registration import register

__all__ = ["HGRNBitConfig", "HGRNBitForCausalLM", "RecurrentCache", "register"]

register()

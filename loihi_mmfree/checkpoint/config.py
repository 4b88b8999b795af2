"""The shape of a MatMul-free language model, read from a `config.json` of model type `hgrn_bit`."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loihi_mmfree.checkpoint.wording import listed, quoted
from loihi_mmfree.errors import CheckpointError, UnsupportedModelError

MODEL_TYPE = "hgrn_bit"
BIT_LINEAR_EPSILON = 1e-6
"""Upstream's fused kernel adds this in a BitLinear, whatever its module prints (mmfreelm/ops/fusedbitnet.py)."""
BIT_LINEAR_SMALLEST = 1e-5
"""Upstream takes no magnitude that it scales by for less (activation_quant, weight_quant in the same file)."""
LARGEST_SIZE = 2**24
LARGEST_DEPTH = 4096
MOST_END_TOKENS = 64
ALIASES: Mapping[str, str] = {"norm_eps": "rms_norm_eps"}
"""Other names of what a field means, as flash-linear-attention writes them."""
# What upstream and transformers write into every config.json and what enters no result here.
_WITHOUT_EFFECT = frozenset(
    {
        "_attn_implementation_autoset",
        "_name_or_path",
        "add_cross_attention",
        "architectures",
        "attention_dropout",
        "attention_probs_dropout_prob",
        "attn_implementation",
        "attn_mode",
        "auto_map",
        "bad_words_ids",
        "begin_suppress_tokens",
        "chunk_size_feed_forward",
        "conv_size",
        "cross_attention_hidden_size",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "dtype",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "exponential_decay_length_penalty",
        "finetuning_task",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "fuse_cross_entropy",
        "fuse_norm",
        "fuse_swiglu",
        "hidden_act",
        "hidden_dropout",
        "hidden_dropout_prob",
        "id2label",
        "is_decoder",
        "is_encoder_decoder",
        "label2id",
        "length_penalty",
        "max_length",
        "max_position_embeddings",
        "min_length",
        "model_type",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "pad_token_id",
        "prefix",
        "problem_type",
        "pruned_heads",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict",
        "return_dict_in_generate",
        "sep_token_id",
        "share_conv_kernel",
        "suppress_tokens",
        "task_specific_params",
        "temperature",
        "tf_legacy_loss",
        "tie_encoder_decoder",
        "tokenizer_class",
        "top_k",
        "top_p",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "typical_p",
        "use_bfloat16",
        "use_cache",
        "use_short_conv",
    }
)
_MEANS_SOMETHING = re.compile(
    r"eps|norm|scal|bias|attn|attention|gate|conv|act|expert|rope|rotary|cap|multipl|quant|layer|head|window|dim"
    r"|size|clamp|clip|residual|bound|ratio|expand|rank|lora|kernel|feature|share|soft"
)
"""Parts of the names of settings that shape what a model computes."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes a model of upstream's `HGRNBitForCausalLM`.

    Use `from_dict` to build one: it checks every value and resolves `intermediate_size`.
    Source: matmulfreellm, mmfreelm/models/hgrn_bit/configuration_hgrn_bit.py (names and defaults).

    Parameters
    ----------
    vocab_size, hidden_size, num_hidden_layers : int
        V, H and L of the tensor shapes (`expected_shapes`).
    intermediate_size : int
        Width I of the gated linear unit.
    num_heads : int
        Number of heads. They only reshape the token mixer's channels.
    expand_ratio : float
        Width of the token mixer relative to `hidden_size`.
    use_lower_bound : bool
        Whether the forget gates of layers above the first have learned lower bounds.
    hidden_ratio : float
        Gives `intermediate_size` where the file names none.
    rms_norm_eps : float
        Added to the mean square in the norms of the blocks and in the final norm. (The norm inside a
        ternary projection has its own constant, `BIT_LINEAR_EPSILON`.)
    tie_word_embeddings : bool
        Whether the head uses the embedding as its weight.
    bos_token_id : int or None
        Token that begins a text.
    eos_token_id : int, tuple of int or None
        Token, or tokens, that end a text.
    initializer_range : float
        Standard deviation of freshly initialised embeddings and projections.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    num_heads: int = 1
    expand_ratio: float = 1
    use_lower_bound: bool = True
    hidden_ratio: float = 4
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] | None = 2
    initializer_range: float = 0.02

    @property
    def input_dim(self) -> int:
        """Number of channels H' of the token mixer."""
        return int(self.hidden_size * self.expand_ratio)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the model type as plain values; `from_dict` reads them back."""
        return {"model_type": MODEL_TYPE, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "config") -> ModelConfig:
        """Read a configuration; missing keys take upstream's defaults.

        Unknown keys are ignored (`unused_keys` names them) unless their name says that they shape the model.

        Parameters
        ----------
        values : mapping
            The content of a `config.json`.
        where : str
            What to call it in messages, usually its path.

        Raises
        ------
        UnsupportedModelError
            The model is of another type, or uses short convolutions, another token mixer or activation, or a key
            that is unknown and seems to mean something.
        CheckpointError
            A value is of the wrong type or makes no sense.
        """
        values = _with_own_names(values, where)
        _refuse_unsupported(values, where)
        fields = _Fields(values, where)
        hidden_size = fields.size("hidden_size", 2048)
        hidden_ratio = fields.number("hidden_ratio", 4, null_is_default=True)
        config = cls(
            vocab_size=fields.size("vocab_size", 32000),
            hidden_size=hidden_size,
            num_hidden_layers=fields.size("num_hidden_layers", 24, largest=LARGEST_DEPTH),
            intermediate_size=fields.size(
                "intermediate_size",
                _default_intermediate_size(hidden_size, hidden_ratio),
                null_is_default=True,
            ),
            num_heads=fields.size("num_heads", 1),
            expand_ratio=fields.number("expand_ratio", 1),
            use_lower_bound=fields.flag("use_lower_bound", True),
            hidden_ratio=hidden_ratio,
            rms_norm_eps=fields.number("rms_norm_eps", cls.rms_norm_eps),
            tie_word_embeddings=fields.flag("tie_word_embeddings", False),
            bos_token_id=fields.token("bos_token_id", 1),
            eos_token_id=fields.tokens("eos_token_id", 2),
            initializer_range=fields.number("initializer_range", 0.02),
        )
        _check_consistency(config, where)
        return config


def _refuse_unsupported(values: Mapping[str, Any], where: str) -> None:
    """Raise if the configuration is of a model that this package does not map."""
    if values.get("use_short_conv", False) not in (False, None):
        raise UnsupportedModelError(
            f"{where}: use_short_conv is true; short convolutions are not supported, "
            "only models with use_short_conv false"
        )
    supported = {
        "model_type": (None, (MODEL_TYPE,)),
        "attn_mode": ("fused_recurrent", ("fused_recurrent",)),
        "hidden_act": ("swish", ("swish", "silu")),
    }
    for name, (default, allowed) in supported.items():
        found = values.get(name, default)
        if found not in allowed:
            raise UnsupportedModelError(
                f"{where}: {name} is {quoted(found)}; supported: {', '.join(map(repr, allowed))}"
            )
    unused = set(unused_keys(values))
    meant = [
        f"{quoted(name)} ({quoted(value)})"
        for name, value in values.items()
        if name in unused and _MEANS_SOMETHING.search(name)
    ]
    if meant:
        raise UnsupportedModelError(
            f"{where}: unknown keys that by their names shape the model: {listed(meant)}; they would "
            "be ignored. Remove those that change nothing"
        )


def _with_own_names(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values with the names of fields in place of other names for them."""
    renamed = dict(values)
    for alias, name in ALIASES.items():
        if alias not in renamed:
            continue
        value = renamed.pop(alias)
        if renamed.setdefault(name, value) != value:
            other = quoted(renamed[name])
            raise CheckpointError(
                f"{where}: {alias} is {quoted(value)} and {name} {other}; they mean the same, keep one"
            )
    return renamed


def unused_keys(values: Mapping[str, Any]) -> list[str]:
    """Return the keys of a configuration that no field has and that transformers does not write into each."""
    known = {each.name for each in dataclasses.fields(ModelConfig)} | _WITHOUT_EFFECT | ALIASES.keys()
    return [name for name, value in values.items() if name not in known and not _says_nothing(value)]


def _says_nothing(value: Any) -> bool:
    """Whether a setting is off: null, false, zero or empty."""
    return not value


def _default_intermediate_size(hidden_size: int, hidden_ratio: float) -> int:
    """Return two thirds of the product, rounded up to a multiple of 256 (as upstream's HGRNBitMLP does)."""
    return 256 * math.ceil(int(hidden_size * hidden_ratio * 2 / 3) / 256)


def _check_consistency(config: ModelConfig, where: str) -> None:
    """Raise if values that are fine alone do not fit together."""
    if not 1 <= config.input_dim <= LARGEST_SIZE:
        raise CheckpointError(
            f"{where}: hidden_size {config.hidden_size} * expand_ratio {config.expand_ratio} gives "
            f"{config.input_dim} channels; allowed are 1 to {LARGEST_SIZE}"
        )
    for name, width in (
        ("hidden_size", config.hidden_size),
        ("hidden_size * expand_ratio", config.input_dim),
    ):
        if width % config.num_heads:
            raise CheckpointError(f"{where}: {name} {width} is not a multiple of num_heads {config.num_heads}")
    for name in ("bos_token_id", "eos_token_id"):
        for token in as_tokens(getattr(config, name)):
            if token >= config.vocab_size:
                raise CheckpointError(f"{where}: {name} {token} is outside the vocabulary of {config.vocab_size}")


def as_tokens(value: Any) -> tuple[int, ...]:
    """Return the tokens of a field that holds one, several or none: as `ModelConfig` or a manifest has them."""
    return () if value is None else (value,) if isinstance(value, int) else tuple(value)


@dataclass(frozen=True)
class _Fields:
    """Typed access to the values of a configuration, with messages that name the place."""

    values: Mapping[str, Any]
    where: str

    def size(self, name: str, default: int, *, largest: int = LARGEST_SIZE, null_is_default: bool = False) -> int:
        """Return a whole number from 1 to `largest`."""
        value = self._value(name, default, null_is_default)
        if not _is_whole(value) or not 1 <= value <= largest:
            raise self._error(name, value, f"a whole number from 1 to {largest}")
        return value

    def number(self, name: str, default: float, *, null_is_default: bool = False) -> float:
        """Return a positive number, large or small within reason."""
        value = self._value(name, default, null_is_default)
        if not (_is_whole(value) or isinstance(value, float)) or not 0 < value <= LARGEST_SIZE:
            raise self._error(name, value, f"a positive number up to {LARGEST_SIZE}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false."""
        value = self._value(name, default, False)
        if not isinstance(value, bool):
            raise self._error(name, value, "true or false")
        return value

    def token(self, name: str, default: int) -> int | None:
        """Return a token id, or None where the file says null."""
        value = self._value(name, default, False)
        if value is not None and (not _is_whole(value) or value < 0):
            raise self._error(name, value, "a token id or null")
        return value

    def tokens(self, name: str, default: int) -> int | tuple[int, ...] | None:
        """Return a token id, several where the file has a list of them, or None where it says null."""
        value = self._value(name, default, False)
        if not isinstance(value, list):
            return self.token(name, default)
        if not 0 < len(value) <= MOST_END_TOKENS or not all(_is_whole(each) and each >= 0 for each in value):
            raise self._error(name, value, f"a token id, a list of 1 to {MOST_END_TOKENS} of them, or null")
        unique = tuple(dict.fromkeys(value))
        return unique if len(unique) > 1 else unique[0]

    def _value(self, name: str, default: Any, null_is_default: bool) -> Any:
        value = self.values.get(name, default)
        return default if value is None and null_is_default else value

    def _error(self, name: str, value: Any, allowed: str) -> CheckpointError:
        return CheckpointError(f"{self.where}: {name} is {quoted(value)}; it must be {allowed}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


PUBLISHED_CONFIGS: Mapping[str, ModelConfig] = {
    name: ModelConfig.from_dict(
        {"model_type": MODEL_TYPE, "hidden_size": hidden_size, "num_hidden_layers": num_hidden_layers}
    )
    for name, hidden_size, num_hidden_layers in (("370M", 1024, 24), ("1.3B", 2048, 24), ("2.7B", 2560, 32))
}

"""The shape of a MatMul-free language model, read from a `config.json` of model type `hgrn_bit`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loihi_mmfree.errors import CheckpointError, UnsupportedModelError

MODEL_TYPE = "hgrn_bit"
BIT_LINEAR_EPSILON = 1e-6
"""Upstream's fused kernel adds this in a BitLinear, whatever its module prints (mmfreelm/ops/fusedbitnet.py)."""
LARGEST_SIZE = 2**24
LARGEST_DEPTH = 4096


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
    bos_token_id, eos_token_id : int or None
        Tokens that begin and end a text.
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
    eos_token_id: int | None = 2
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
        """Read a configuration; missing keys take upstream's defaults, unknown keys are ignored.

        Parameters
        ----------
        values : mapping
            The content of a `config.json`.
        where : str
            What to call it in messages, usually its path.

        Raises
        ------
        UnsupportedModelError
            The model is of another type, or uses short convolutions, another token mixer or activation.
        CheckpointError
            A value is of the wrong type or makes no sense.
        """
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
            eos_token_id=fields.token("eos_token_id", 2),
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
                f"{where}: {name} is {repr(found)[:80]}; supported: {', '.join(map(repr, allowed))}"
            )


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
        token = getattr(config, name)
        if token is not None and token >= config.vocab_size:
            raise CheckpointError(f"{where}: {name} {token} is outside the vocabulary of {config.vocab_size}")


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

    def _value(self, name: str, default: Any, null_is_default: bool) -> Any:
        value = self.values.get(name, default)
        return default if value is None and null_is_default else value

    def _error(self, name: str, value: Any, allowed: str) -> CheckpointError:
        return CheckpointError(f"{self.where}: {name} is {repr(value)[:80]}; it must be {allowed}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


PUBLISHED_CONFIGS: Mapping[str, ModelConfig] = {
    name: ModelConfig.from_dict(
        {"model_type": MODEL_TYPE, "hidden_size": hidden_size, "num_hidden_layers": num_hidden_layers}
    )
    for name, hidden_size, num_hidden_layers in (("370M", 1024, 24), ("1.3B", 2048, 24), ("2.7B", 2560, 32))
}

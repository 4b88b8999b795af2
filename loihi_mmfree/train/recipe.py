"""What a training is asked to do, as the command line gives it and recipe.toml keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loihi_mmfree.checkpoint import PUBLISHED_CONFIGS, ModelConfig
from loihi_mmfree.checkpoint.config import MODEL_TYPE
from loihi_mmfree.errors import LoihiMmfreeError, UsageError
from loihi_mmfree.files import parse_toml
from loihi_mmfree.untrusted import short, some_of

PRECISIONS = ("float32", "bfloat16")
PARALLEL = ("ddp", "fsdp")
NO_TOKEN = "none"
"""What TOML, which has no null, says of a token that a model does not have."""
_OWN = {
    "tiny": {"vocab_size": 512, "hidden_size": 128, "num_hidden_layers": 4},
    "demo": {"vocab_size": 2048, "hidden_size": 256, "num_hidden_layers": 6},
    "small": {"vocab_size": 4096, "hidden_size": 384, "num_hidden_layers": 8},
}
_PUBLISHED_RATES = {"370M": 4e-3, "1.3B": 2.5e-3, "2.7B": 1.5e-3}
"""Peak learning rates of Zhu et al. 2024 (arXiv:2406.02528), each with a cosine schedule."""
PRESETS: Mapping[str, Mapping[str, Any]] = {
    **{name: {"model": model} for name, model in _OWN.items()},
    **{
        name: {
            "model": {
                "vocab_size": config.vocab_size,
                "hidden_size": config.hidden_size,
                "num_hidden_layers": config.num_hidden_layers,
            },
            "batch": 256,
            "window": 2048,
            "precision": "bfloat16",
            "optimizer": {"learning_rate": _PUBLISHED_RATES[name]},
        }
        for name, config in PUBLISHED_CONFIGS.items()
    },
}
"""Shape -> a recipe for it, as TOML would give it."""

_Range = tuple[float, float]


def _check_numbers(settings: Any, where: str, ranges: Mapping[str, _Range], whole: bool) -> None:
    """Raise UsageError unless the named fields are numbers within their ranges."""
    for name, (least, most) in ranges.items():
        value = getattr(settings, name)
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not number or not least <= value <= most:
            kind = "a whole number" if whole else "a number"
            raise UsageError(f"{where}{name} is {short(value)}; it must be {kind} from {least:g} to {most:g}")


def _known(settings: type, values: Any, where: str) -> dict[str, Any]:
    """The values of a table, all of whose keys must be fields of a class of settings."""
    known = [each.name for each in dataclasses.fields(settings)]
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} is {short(values)}; it must be a table of {', '.join(known)}")
    unknown = sorted(values.keys() - set(known))
    if unknown:
        raise UsageError(f"{where}: unknown {some_of(map(str, unknown))}; known: {', '.join(known)}")
    return dict(values)


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW, and a learning rate that rises linearly and then falls along half a cosine.

    Parameters
    ----------
    learning_rate : float
        Its peak.
    warmup : float
        Share of all steps, 0 to 1, in which it rises.
    final : float
        What is left of it behind the last step, as a share of the peak.
    weight_decay : float
        Of ternary matrices; norms, embeddings, lower bounds and scales have none.
    beta1, beta2, epsilon : float
        Of AdamW.
    largest_gradient : float
        A gradient whose norm over all parameters is larger is scaled down to it.
    """

    learning_rate: float = 3e-3
    warmup: float = 0.05
    final: float = 0.0
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    largest_gradient: float = 1.0

    def __post_init__(self) -> None:
        ranges = {
            "learning_rate": (1e-8, 1.0),
            "warmup": (0.0, 1.0),
            "final": (0.0, 1.0),
            "weight_decay": (0.0, 1.0),
            "beta1": (0.0, 0.9999),
            "beta2": (0.0, 0.99999),
            "epsilon": (1e-12, 1e-2),
            "largest_gradient": (1e-3, 1e6),
        }
        _check_numbers(self, "recipe: optimizer.", ranges, whole=False)


@dataclass(frozen=True)
class TextSettings:
    """How text becomes documents, and the tokenizer that is trained on it.

    Parameters
    ----------
    field : str
        Of a file of JSON lines, the key that holds the text of a document.
    tokenizer_characters : int
        A tokenizer is trained on so many characters from the beginning of the text.
    """

    field: str = "text"
    tokenizer_characters: int = 100_000_000

    def __post_init__(self) -> None:
        if not isinstance(self.field, str) or not self.field:
            raise UsageError(f"recipe: text.field is {short(self.field)}; it must be the name of a key")
        _check_numbers(self, "recipe: text.", {"tokenizer_characters": (1, 2**40)}, whole=True)


@dataclass(frozen=True)
class Recipe:
    """All that decides what a training gives, but for the text.

    Parameters
    ----------
    model : ModelConfig
    steps : int
        How often the weights change.
    batch : int
        Windows of a step.
    micro_batch : int
        Windows that one device computes at once; a step adds up the gradients of several. 0 is all of its share.
    window : int
        Tokens of a window, which sees nothing before it.
    seed : int
        Of fresh weights and of the order of the windows.
    precision : {"float32", "bfloat16"}
        Of products, by autocast; parameters and optimizer are in float32 always.
    parallel : {"ddp", "fsdp"}
        What several devices share: the gradients, or all parameters too.
    save_every : int
        Steps from one checkpoint to the next.
    optimizer : OptimizerSettings
    text : TextSettings

    Raises
    ------
    UsageError
        A value is none of those allowed.
    """

    model: ModelConfig
    steps: int = 1000
    batch: int = 16
    micro_batch: int = 0
    window: int = 256
    seed: int = 0
    precision: str = "float32"
    parallel: str = "ddp"
    save_every: int = 100
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    text: TextSettings = field(default_factory=TextSettings)

    def __post_init__(self) -> None:
        ranges = {
            "steps": (1, 2**31),
            "batch": (1, 2**20),
            "micro_batch": (0, 2**20),
            "window": (2, 2**20),
            "seed": (0, 2**32 - 1),
            "save_every": (1, 2**31),
        }
        _check_numbers(self, "recipe: ", ranges, whole=True)
        for name, allowed in (("precision", PRECISIONS), ("parallel", PARALLEL)):
            if getattr(self, name) not in allowed:
                found = short(getattr(self, name))
                raise UsageError(f"recipe: {name} is {found}; it must be one of {', '.join(allowed)}")
        if self.micro_batch and self.batch % self.micro_batch:
            raise UsageError(
                f"recipe: batch {self.batch} is not a multiple of micro_batch {self.micro_batch}; windows would "
                "be left over"
            )

    @classmethod
    def preset(cls, shape: str) -> Recipe:
        """Return the recipe for a shape of `PRESETS`.

        Raises
        ------
        UsageError
            There is none of this name.
        """
        return cls.from_mapping({"shape": shape})

    @classmethod
    def from_toml(cls, text: str, where: str) -> Recipe:
        """Read a recipe from TOML text; `where` names it in errors."""
        return cls.from_mapping(parse_toml(text, where))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Recipe:
        """Read a recipe as TOML gives it: a `shape` gives what the rest does not say.

        Raises
        ------
        UsageError
            A key is unknown, a value is none of those allowed, or nothing says what the model is.
        """
        own = dict(values)
        shape = own.pop("shape", None)
        if shape is not None and shape not in PRESETS:
            raise UsageError(f"recipe: shape is {short(shape)}; known: {', '.join(PRESETS)}")
        own = _known(cls, own, "recipe")
        if shape is None and "model" not in own:
            raise UsageError(
                f"recipe: nothing says what the model is; give a shape ({', '.join(PRESETS)}) or a table [model]"
            )
        settings = _merged(PRESETS[shape] if shape is not None else {}, own)
        settings["model"] = _model(settings["model"])
        for name, kind in _TABLES.items():
            if name in settings:
                settings[name] = kind(**_known(kind, settings[name], f"recipe: {name}"))
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, as TOML has them."""
        model = {name: NO_TOKEN if value is None else value for name, value in vars(self.model).items()}
        plain = {name: value for name, value in vars(self).items() if name not in ("model", *_TABLES)}
        # TOML wants plain values before tables.
        return {**plain, "model": model, **{name: dataclasses.asdict(getattr(self, name)) for name in _TABLES}}

    def to_toml(self) -> str:
        """Return the settings as TOML text."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    def differences(self, other: Recipe) -> list[str]:
        """Return what another recipe says differently, setting by setting."""
        mine, others = _flat(self.to_dict()), _flat(other.to_dict())
        differing = (name for name in {**mine, **others} if mine.get(name) != others.get(name))
        return [f"{name} is {mine.get(name)!r}, not {others.get(name)!r}" for name in differing]


_TABLES: Mapping[str, type] = {"optimizer": OptimizerSettings, "text": TextSettings}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others over them, table by table."""
    merged = dict(base)
    for name, value in over.items():
        below = merged.get(name)
        merged[name] = {**below, **value} if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _model(values: Any) -> ModelConfig:
    """The table [model], with the names and checks of a config.json."""
    named = _known(ModelConfig, values, "recipe: model")
    plain = {name: None if value == NO_TOKEN else value for name, value in named.items()}
    try:
        return ModelConfig.from_dict({"model_type": MODEL_TYPE, **plain}, "recipe: model")
    except LoihiMmfreeError as error:
        raise UsageError(str(error)) from error


def _flat(values: Mapping[str, Any], front: str = "") -> dict[str, Any]:
    """Values of tables by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{front}{name}.") if isinstance(value, Mapping) else {f"{front}{name}": value}
    return flat

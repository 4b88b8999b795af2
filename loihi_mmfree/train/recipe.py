"""What a training is asked to do, as the command line gives it and recipe.toml keeps it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loihi_mmfree.checkpoint import PUBLISHED_CONFIGS, ModelConfig
from loihi_mmfree.checkpoint.config import MODEL_TYPE
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.errors import LoihiMmfreeError, UsageError
from loihi_mmfree.files import LARGEST_SETTINGS_BYTES, parse_toml, read_text
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.train.settings import (
    OptimizerSettings,
    RetrainingSettings,
    TextSettings,
    check_choice,
    check_numbers,
    known_keys,
)
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

FROM_A_CHECKPOINT: Mapping[str, Any] = {
    "steps": 300,
    "optimizer": {"learning_rate": 3e-4, "matrices": 0.01, "warmup": 0.1, "weight_decay": 0.0},
}
"""What a recipe that trains a checkpoint for a chip does not say."""


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
    quantization : QuantizationConfig, optional
        What a checkpoint is trained for; None trains the float model.
    retraining : RetrainingSettings
        How, with `quantization`.

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
    quantization: QuantizationConfig | None = None
    retraining: RetrainingSettings = field(default_factory=RetrainingSettings)

    def __post_init__(self) -> None:
        ranges = {
            "steps": (1, 2**31),
            "batch": (1, 2**20),
            "micro_batch": (0, 2**20),
            "window": (2, 2**20),
            "seed": (0, 2**32 - 1),
            "save_every": (1, 2**31),
        }
        check_numbers(self, "recipe: ", ranges, whole=True)
        for name, allowed in (("precision", PRECISIONS), ("parallel", PARALLEL)):
            check_choice(self, "recipe: ", name, allowed)
        if self.micro_batch and self.batch % self.micro_batch:
            raise UsageError(
                f"recipe: batch {self.batch} is not a multiple of micro_batch {self.micro_batch}; windows would "
                "be left over"
            )
        if self.quantization is not None and self.precision != "float32":
            raise UsageError(
                "recipe: precision must be float32 where a model is trained for the formats of a chip"
            )
        if self.quantization is not None and self.retraining.arithmetic == "exact" and self.parallel == "fsdp":
            raise UsageError("recipe: parallel must be ddp with retraining.arithmetic = 'exact'")

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
    def for_checkpoint(
        cls, model: ModelConfig, values: Mapping[str, Any], quantization: QuantizationConfig | None
    ) -> Recipe:
        """Return a recipe that goes on from a checkpoint.

        Parameters
        ----------
        model : ModelConfig
            Of the checkpoint.
        values : mapping
            What the recipe says, as TOML gives it.
        quantization : QuantizationConfig, optional
            What to train it for, over what the recipe says.

        Raises
        ------
        UsageError
            The recipe is for another model.
        """
        settings = dict(values)
        if quantization is not None:
            settings["quantization"] = quantization.to_dict()
        base = FROM_A_CHECKPOINT if "quantization" in settings else {}
        shape = {} if "shape" in settings else {"model": _table(model)}
        recipe = cls.from_mapping(_merged({**base, **shape}, settings))
        different = recipe.differences(dataclasses.replace(recipe, model=model))
        if different:
            raise UsageError(f"recipe: the checkpoint is another model: {some_of(different)}; leave that out")
        return recipe

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
        own = known_keys(cls, own, "recipe")
        if shape is None and "model" not in own:
            raise UsageError(
                f"recipe: nothing says what the model is; give a shape ({', '.join(PRESETS)}) or a table [model]"
            )
        settings = _merged(PRESETS[shape] if shape is not None else {}, own)
        settings["model"] = _model(settings["model"])
        for name, kind in _TABLES.items():
            if name in settings:
                settings[name] = kind(**known_keys(kind, settings[name], f"recipe: {name}"))
        if "quantization" in settings:
            settings["quantization"] = QuantizationConfig.from_dict(settings["quantization"])
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, as TOML has them."""
        tables = {name: dataclasses.asdict(getattr(self, name)) for name in _TABLES}
        if self.quantization is None:
            del tables["retraining"]
        else:
            tables["quantization"] = self.quantization.to_dict()
        plain = {name: value for name, value in vars(self).items() if name not in _ALL_TABLES}
        # TOML wants plain values before tables.
        return {**plain, "model": _table(self.model), **tables}

    def to_toml(self) -> str:
        """Return the settings as TOML text."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    def differences(self, other: Recipe) -> list[str]:
        """Return what another recipe says differently, setting by setting."""
        mine, others = _flat(self.to_dict()), _flat(other.to_dict())
        differing = (name for name in {**mine, **others} if mine.get(name) != others.get(name))
        return [f"{name} is {mine.get(name)!r}, not {others.get(name)!r}" for name in differing]


def quantization_of(given: QuantizationConfig | str | Path) -> QuantizationConfig:
    """Return settings of quantization: as they are, by the width of activations as `a8`, or of a file.

    Raises
    ------
    UsageError
        There is no such file, or it holds something else.
    """
    if isinstance(given, QuantizationConfig):
        return given
    width = _WIDTH.fullmatch(str(given))
    if width:
        return QuantizationConfig(activation_bits=int(width[1]))
    path = Path(given)
    return CompileConfig.from_toml(read_text(path, LARGEST_SETTINGS_BYTES, "`quantize`"), str(path)).quantization


_WIDTH = re.compile(r"a(\d{1,2})")
_TABLES: Mapping[str, type] = {
    "optimizer": OptimizerSettings,
    "text": TextSettings,
    "retraining": RetrainingSettings,
}
_ALL_TABLES = ("model", "quantization", *_TABLES)


def _table(model: ModelConfig) -> dict[str, Any]:
    """The table [model] of a configuration."""
    return {name: NO_TOKEN if value is None else value for name, value in vars(model).items()}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others over them, table by table."""
    merged = dict(base)
    for name, value in over.items():
        below = merged.get(name)
        merged[name] = {**below, **value} if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _model(values: Any) -> ModelConfig:
    """The table [model], with the names and checks of a config.json."""
    named = known_keys(ModelConfig, values, "recipe: model")
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

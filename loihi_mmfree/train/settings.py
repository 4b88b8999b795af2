"""The tables of a recipe: each a class that checks its values, and the checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loihi_mmfree.errors import UsageError
from loihi_mmfree.untrusted import short, some_of

SCALES = ("calibrated", "learned")
ARITHMETICS = ("float", "exact")

Range = tuple[float, float]


def check_numbers(settings: Any, where: str, ranges: Mapping[str, Range], whole: bool) -> None:
    """Raise UsageError unless the named fields are numbers within their ranges."""
    for name, (least, most) in ranges.items():
        value = getattr(settings, name)
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not number or not least <= value <= most:
            kind = "a whole number" if whole else "a number"
            raise UsageError(f"{where}{name} is {short(value)}; it must be {kind} from {least:g} to {most:g}")


def check_choice(settings: Any, where: str, name: str, allowed: tuple[str, ...]) -> None:
    """Raise UsageError unless a field has one of the values allowed."""
    found = getattr(settings, name)
    if found not in allowed:
        raise UsageError(f"{where}{name} is {short(found)}; it must be one of {', '.join(allowed)}")


def known_keys(settings: type, values: Any, where: str) -> dict[str, Any]:
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
    matrices : float
        Rate of the ternary matrices, as a share of that of everything else. A step of theirs changes codes, or
        nothing; the less of it, the less noise.
    warmup : float
        Share of all steps, 0 to 1, in which it rises.
    final : float
        What is left of it behind the last step, as a share of the peak.
    weight_decay : float
        Of the ternary matrices; norms, embeddings, lower bounds and scales have none.
    beta1, beta2, epsilon : float
        Of AdamW.
    largest_gradient : float
        A gradient whose norm over all parameters is larger is scaled down to it.
    """

    learning_rate: float = 3e-3
    matrices: float = 1.0
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
            "matrices": (0.0, 1.0),
            "warmup": (0.0, 1.0),
            "final": (0.0, 1.0),
            "weight_decay": (0.0, 1.0),
            "beta1": (0.0, 0.9999),
            "beta2": (0.0, 0.99999),
            "epsilon": (1e-12, 1e-2),
            "largest_gradient": (1e-3, 1e6),
        }
        check_numbers(self, "recipe: optimizer.", ranges, whole=False)


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
        check_numbers(self, "recipe: text.", {"tokenizer_characters": (1, 2**40)}, whole=True)


@dataclass(frozen=True)
class RetrainingSettings:
    """How a model is trained for the formats of a chip.

    Parameters
    ----------
    distillation : float
        Share of the loss that is the divergence (KL) from the float model's predictions; the rest is the text's.
    scales : {"calibrated", "learned"}
        Whether the formats of the projections' inputs stay as calibrated, or are trained too.
    arithmetic : {"float", "exact"}
        Steps are computed with fake quantization in float32, or with the integers of the compiled network.
    calibration_tokens : int
        How many tokens of the text choose the formats.
    """

    distillation: float = 1.0
    scales: str = "calibrated"
    arithmetic: str = "float"
    calibration_tokens: int = 4096

    def __post_init__(self) -> None:
        where = "recipe: retraining."
        check_numbers(self, where, {"distillation": (0.0, 1.0)}, whole=False)
        check_numbers(self, where, {"calibration_tokens": (1, 2**22)}, whole=True)
        for name, allowed in (("scales", SCALES), ("arithmetic", ARITHMETICS)):
            check_choice(self, where, name, allowed)

"""What a compilation is asked to do, as the command line gives it and config.toml keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loihi_mmfree.checkpoint import TERNARY_SCALES
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import parse_toml
from loihi_mmfree.loihi2.hardware import LARGEST_GRID
from loihi_mmfree.place.placement import HEADS, OBJECTIVES
from loihi_mmfree.quantize.config import INPUT, QuantizationConfig, SiteRule
from loihi_mmfree.untrusted import short, some_of

WEIGHT_BITS = (2, 8)
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "a8": {"quantization": {"activation_bits": 8}},
    "a16": {"quantization": {"activation_bits": 16}},
    # Weights of 8 bits, messages of 24 and activations of 16: Abreu et al. 2025 (arXiv:2503.18002).
    "abreu2025": {"weight_bits": 8, "quantization": {"activation_bits": 16, "residual_bits": 24}},
}
"""Name -> settings that differ from the defaults, as config.toml would give them."""
_COUNTS = {"calibration_tokens": (1, 2**22), "golden_tokens": (1, 1024), "chips": (0, LARGEST_GRID)}
"""Least and greatest value of each count."""


@dataclass(frozen=True)
class CompileConfig:
    """Settings of one compilation.

    Parameters
    ----------
    quantization : QuantizationConfig
        Widths of all values.
    chip : str
        The system to compile for: a name that `loihi2.hardware` knows, or a TOML file.
    weight_bits : int
        How a weight is held in synapse memory, 2 or 8 bits. It changes no result.
    head : {"host", "chip"}
        Where the final norm and the head are computed.
    objective : {"chips", "speed"}
        Place on as few chips as possible, or spread over `chips` for the shortest time step.
    chips : int
        Use at most so many chips; 0 is as many as the system has.
    straddle : bool
        Let a block lie on more than one chip.
    ternary_scale : {"absmean", "stored"}
        Scale of projections that are stored ternary already: the mean magnitude, as upstream computes it, or the
        magnitude stored.
    calibration_tokens : int
        How many tokens of calibration text choose the formats.
    golden_tokens : int
        Length of the input whose every message is kept in golden.npz.
    """

    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    chip: str = "loihi2"
    weight_bits: int = 8
    head: str = "host"
    objective: str = "chips"
    chips: int = 0
    straddle: bool = False
    ternary_scale: str = "absmean"
    calibration_tokens: int = 4096
    golden_tokens: int = 8

    def __post_init__(self) -> None:
        if not isinstance(self.chip, str) or not self.chip:
            raise UsageError(f"chip is {short(self.chip)}; it must be the name of a system or of a TOML file")
        choices_of = {
            "weight_bits": WEIGHT_BITS,
            "head": HEADS,
            "objective": OBJECTIVES,
            "ternary_scale": TERNARY_SCALES,
        }
        for name, choices in choices_of.items():
            if getattr(self, name) not in choices:
                allowed = ", ".join(map(str, choices))
                raise UsageError(f"{name} is {short(getattr(self, name))}; it must be one of {allowed}")
        for name, (least, most) in _COUNTS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise UsageError(f"{name} is {short(value)}; it must be a whole number from {least} to {most}")
        if not isinstance(self.straddle, bool):
            raise UsageError(f"straddle is {short(self.straddle)}; it must be true or false")

    def to_toml(self) -> str:
        """Return the settings as TOML text."""
        import tomli_w

        data = self.to_dict()
        # TOML wants plain values before tables.
        return tomli_w.dumps({**data, "quantization": data.pop("quantization")})

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return {**dataclasses.asdict(self), "quantization": self.quantization.to_dict()}

    @classmethod
    def preset(cls, name: str) -> CompileConfig:
        """Return the settings of `PRESETS` by name.

        Raises
        ------
        UsageError
            There are none of this name.
        """
        if name not in PRESETS:
            raise UsageError(f"preset: unknown {short(name)}; known: {', '.join(PRESETS)}")
        return cls.from_mapping(PRESETS[name])

    def changed(
        self,
        widths: Mapping[str, int | None] | None = None,
        inputs: Mapping[str, Any] | None = None,
        others: Mapping[str, Any] | None = None,
    ) -> CompileConfig:
        """Return these settings with others over them; None leaves one as it is.

        Parameters
        ----------
        widths : mapping, optional
            Widths of `QuantizationConfig` by name: of all such sites, as far as no rule says otherwise.
        inputs : mapping, optional
            What a `SiteRule` sets, by name, for all inputs of projections.
        others : mapping, optional
            Fields by name.
        """
        quantization = dataclasses.replace(self.quantization, **_given(widths))
        rule = _given(inputs)
        if rule:
            sites = (*quantization.sites, SiteRule(f"*{INPUT}", **rule))
            quantization = dataclasses.replace(quantization, sites=sites)
        return dataclasses.replace(self, quantization=quantization, **_given(others))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> CompileConfig:
        """Read settings as TOML gives them; missing ones take their defaults.

        Raises
        ------
        UsageError
            A key is unknown or a value is out of its limits.
        """
        known = {each.name for each in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UsageError(f"configuration: unknown {some_of(unknown)}; known: {', '.join(sorted(known))}")
        settings = dict(values)
        quantization = QuantizationConfig.from_dict(settings.pop("quantization", {}))
        return cls(quantization=quantization, **settings)

    @classmethod
    def from_toml(cls, text: str, where: str) -> CompileConfig:
        """Read settings from TOML text; `where` names it in errors."""
        return cls.from_mapping(parse_toml(text, where))


def _given(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (values or {}).items() if value is not None}

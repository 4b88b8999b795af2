"""What a compilation is asked to do, as the command line gives it and config.toml keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loihi_mmfree.errors import UsageError
from loihi_mmfree.quantize.config import QuantizationConfig

CHIPS = ("loihi2",)
WEIGHT_BITS = (2, 8)


@dataclass(frozen=True)
class CompileConfig:
    """Settings of one compilation.

    Parameters
    ----------
    quantization : QuantizationConfig
        Widths of all values.
    chip : str
        The chip to compile for.
    weight_bits : int
        How a weight is held in synapse memory, 2 or 8 bits. It changes no result.
    calibration_tokens : int
        How many tokens of calibration text choose the formats.
    golden_tokens : int
        Length of the input whose every message is kept in golden.npz.
    """

    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    chip: str = "loihi2"
    weight_bits: int = 8
    calibration_tokens: int = 4096
    golden_tokens: int = 8

    def __post_init__(self) -> None:
        if self.chip not in CHIPS:
            raise UsageError(f"chip: unknown {self.chip!r}; known: {', '.join(CHIPS)}")
        if self.weight_bits not in WEIGHT_BITS:
            raise UsageError(f"weight_bits is {self.weight_bits!r}; it must be one of {WEIGHT_BITS}")
        for name in ("calibration_tokens", "golden_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} is {value!r}; it must be a whole number of at least 1")

    def to_toml(self) -> str:
        """Return the settings as TOML text."""
        import tomli_w

        data = dataclasses.asdict(self)
        # TOML wants plain values before tables.
        return tomli_w.dumps({**data, "quantization": data.pop("quantization")})

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
            raise UsageError(f"configuration: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        settings = dict(values)
        quantization = QuantizationConfig.from_dict(settings.pop("quantization", {}))
        return cls(quantization=quantization, **settings)

    @classmethod
    def from_toml(cls, text: str, where: str) -> CompileConfig:
        """Read settings from TOML text; `where` names it in errors."""
        import sys

        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{where}: not valid TOML: {error}") from error
        return cls.from_mapping(values)

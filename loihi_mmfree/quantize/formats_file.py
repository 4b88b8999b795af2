"""The file of formats in a checkpoint that was trained for them: they are used, and nothing is calibrated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loihi_mmfree.errors import CheckpointError, UsageError
from loihi_mmfree.files import read_regular
from loihi_mmfree.fixedpoint.qformat import SIXTEENTHS, QFormat
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.untrusted import parse_json, short

FORMATS = "trained_formats.json"
LARGEST_FORMATS_BYTES = 2**24
FRACTIONS = -64, 64
"""Fewest and most fractional bits that are read; the proof of bounds refuses less."""
BITS = 4, 24


@dataclass(frozen=True)
class TrainedFormats:
    """Formats that belong to the weights they lie beside.

    Parameters
    ----------
    config : QuantizationConfig
        The settings that they were made for.
    formats : mapping of str to QFormat
        Of every site.
    thresholds : mapping of str to int
        Of sites that have one.
    """

    config: QuantizationConfig
    formats: Mapping[str, QFormat]
    thresholds: Mapping[str, int]

    def to_json(self) -> str:
        """Return the text of the file."""
        formats = {site: each.to_list() for site, each in self.formats.items()}
        values = {
            "quantization": self.config.to_dict(),
            "formats": formats,
            "thresholds": dict(self.thresholds),
        }
        return json.dumps(values, indent=1) + "\n"

    @classmethod
    def beside(cls, folder: Path) -> TrainedFormats | None:
        """Return those of a folder; None where there are none.

        Raises
        ------
        CheckpointError
            The file is damaged.
        """
        path = folder / FORMATS
        if not path.exists():
            return None
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> TrainedFormats:
        """Read a file.

        Raises
        ------
        CheckpointError
            It is damaged.
        """
        try:
            values: Any = parse_json(read_regular(path, LARGEST_FORMATS_BYTES))
            return cls(
                QuantizationConfig.from_dict(values["quantization"]),
                {site: _format(each) for site, each in values["formats"].items()},
                {site: _whole(each, 1, 2 ** BITS[1]) for site, each in values["thresholds"].items()},
            )
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
            raise CheckpointError(f"{path}: no formats as training writes them: {error}") from error


def _format(value: Any) -> QFormat:
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise ValueError(f"{short(value)} is not [bits, frac] or [bits, frac, sixteenths]")
    limits = (BITS, FRACTIONS, (SIXTEENTHS, 2 * SIXTEENTHS - 1))
    return QFormat(*(_whole(each, *ends) for each, ends in zip(value, limits, strict=False)))


def _whole(value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{short(value)} is no whole number from {least} to {most}")
    return value

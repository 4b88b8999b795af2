"""Published figures, read from the package's data file; nothing here is ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loihi_mmfree.cost.parameters import read_toml

PUBLISHED_FILE = "published.toml"


@dataclass(frozen=True)
class PublishedSystem:
    """One system of the published table; every sequence runs over `Published.tokens`.

    Parameters
    ----------
    hardware, model : str
    kind : str
        Measured or estimated, and by whom.
    generate_tokens_per_s, prefill_tokens_per_s : tuple of float
    generate_millijoules, prefill_millijoules : tuple of float
        A token.
    """

    hardware: str
    model: str
    kind: str
    generate_tokens_per_s: tuple[float, ...]
    generate_millijoules: tuple[float, ...]
    prefill_tokens_per_s: tuple[float, ...]
    prefill_millijoules: tuple[float, ...]


@dataclass(frozen=True)
class PublishedAccelerator:
    """One system of which a throughput and an energy of generating are published, and no length of a sequence.

    Parameters
    ----------
    hardware, model : str
    kind : str
        Who says so.
    citation : str
    generate_tokens_per_s, generate_millijoules : float
        The latter a token.
    leaves_out : str
        What the figures do not count, or what is not known about them.
    lanes : int, optional
        How many work side by side; their throughput is given together.
    """

    hardware: str
    model: str
    kind: str
    citation: str
    generate_tokens_per_s: float
    generate_millijoules: float
    leaves_out: str
    lanes: int | None = None


@dataclass(frozen=True)
class Published:
    """All that was published and is compared with.

    Parameters
    ----------
    citation : str
    tokens : tuple of int
        Sequence lengths of the table.
    systems : tuple of PublishedSystem
    accelerators : tuple of PublishedAccelerator
    zeros : mapping kind of projection -> float
        Share of zeros at its input, 370M at 8 bit.
    zeros_citation : str
    """

    citation: str
    tokens: tuple[int, ...]
    systems: tuple[PublishedSystem, ...]
    accelerators: tuple[PublishedAccelerator, ...]
    zeros: Mapping[str, float]
    zeros_citation: str


def load_published() -> Published:
    """Read the published figures."""
    data = read_toml(PUBLISHED_FILE)
    systems = tuple(_system(each) for each in data["system"])
    accelerators = tuple(PublishedAccelerator(**each) for each in data["accelerator"])
    zeros = dict(data["zeros"])
    citation = str(zeros.pop("citation"))
    return Published(data["citation"], tuple(data["tokens"]), systems, accelerators, zeros, citation)


def _system(fields: Mapping[str, Any]) -> PublishedSystem:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
    return PublishedSystem(**values)

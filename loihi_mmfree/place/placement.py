"""A placement as data, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from loihi_mmfree.untrusted import short

HEADS = ("host", "chip")
LARGEST_NUMBER = 2**31
OBJECTIVES = ("chips", "speed")


@dataclass(frozen=True)
class Shard:
    """Neurons first..first + count of one group, with every synapse that ends at them.

    Parameters
    ----------
    node : str
        A neuron group, or the LogitsOut node when the head is on chip.
    first, count : int
    """

    node: str
    first: int
    count: int

    @property
    def end(self) -> int:
        """One past the last neuron."""
        return self.first + self.count


@dataclass(frozen=True)
class Core:
    """One neurocore and what it holds."""

    chip: int
    core: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class Placement:
    """Where every neuron of a network sits.

    Parameters
    ----------
    system : str
        Name of the ChipSpec it was made for.
    weight_bits : int
        2 or 8.
    head : str
        Where the final norm, the head and the logits are computed: "host" or "chip".
    objective : str
        "chips" or "speed".
    cores : tuple of Core
        Sorted by (chip, core).
    """

    system: str
    weight_bits: int
    head: str
    objective: str
    cores: tuple[Core, ...]

    @property
    def chips_used(self) -> int:
        """Number of chips that hold neurons."""
        return len({core.chip for core in self.cores})

    @property
    def cores_used(self) -> int:
        """Number of cores that hold neurons."""
        return len(self.cores)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description; `from_dict` inverts it."""
        return {
            "system": self.system,
            "weight_bits": self.weight_bits,
            "head": self.head,
            "objective": self.objective,
            "cores": [
                {
                    "chip": core.chip,
                    "core": core.core,
                    "shards": [[shard.node, shard.first, shard.count] for shard in core.shards],
                }
                for core in self.cores
            ],
        }

    @classmethod
    def from_dict(cls, data: Any) -> Placement:
        """Read a description and check it as if it came from a stranger.

        Whether it suits a graph and a system is for :func:`..check.check` to say.

        Raises
        ------
        ValueError
            The description is not a placement.
        """
        fields = _fields(data, "placement", {"system", "weight_bits", "head", "objective", "cores"})
        cores = tuple(_core(each) for each in _list(fields["cores"], "cores"))
        places = [(core.chip, core.core) for core in cores]
        if places != sorted(set(places)):
            raise ValueError("not a placement: cores must be sorted by chip and core, each listed once")
        return cls(
            system=_string(fields["system"], "system"),
            weight_bits=_number(fields["weight_bits"], "weight_bits", 1),
            head=_choice(fields["head"], "head", HEADS),
            objective=_choice(fields["objective"], "objective", OBJECTIVES),
            cores=cores,
        )


def _core(data: Any) -> Core:
    fields = _fields(data, "core", {"chip", "core", "shards"})
    chip, core = (_number(fields[name], name, 0) for name in ("chip", "core"))
    shards = tuple(_shard(each) for each in _list(fields["shards"], "shards"))
    if not shards:
        raise ValueError(f"not a placement: core {core} of chip {chip} holds nothing")
    return Core(chip, core, shards)


def _shard(data: Any) -> Shard:
    values = _list(data, "shard")
    if len(values) != 3:
        raise ValueError(f"not a placement: a shard is [node, first, count], found {short(values)}")
    node, first, count = values
    return Shard(_string(node, "shard node"), _number(first, "shard first", 0), _number(count, "shard count", 1))


def _fields(data: Any, what: str, names: set[str]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping) or set(data) != names:
        raise ValueError(f"not a placement: a {what} has exactly the fields {', '.join(sorted(names))}")
    return cast("Mapping[str, Any]", data)


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"not a placement: {what} must be a list, found {type(value).__name__}")
    return value


def _string(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"not a placement: {what} must be a name, found {short(value)}")
    return value


def _number(value: Any, what: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST_NUMBER:
        found = f"{short(value)}; at most {LARGEST_NUMBER}"
        raise ValueError(f"not a placement: {what} must be a whole number of at least {least}, found {found}")
    return value


def _choice(value: Any, what: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"not a placement: {what} must be one of {', '.join(allowed)}, found {value!r}")
    return str(value)

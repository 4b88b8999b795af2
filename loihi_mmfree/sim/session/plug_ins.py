"""What packages of others register for the chip: found by name, loaded, and held against what each has to be.

Entry points `loihi_mmfree.neurocore_models` name a `NeurocoreModel` for each role of a neuron group, and one entry
point `loihi_mmfree.chip_runners` the function that opens a network on a board (docs/loihi2.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.backend import Backend

MODELS_GROUP = "loihi_mmfree.neurocore_models"
RUNNERS_GROUP = "loihi_mmfree.chip_runners"
OURS = "loihi_mmfree."
"""What the names of all groups of entry points begin with."""


class NeurocoreModel(Protocol):
    """What a package registers for a role of neuron groups: an object, or a class that takes no arguments."""

    def refusal(self, graph: Graph, group: NeuronGroup) -> str:
        """Say why it cannot run a group of its role, for people; an empty text if it can.

        Programs of one role differ between networks: widths, thresholds, how many parts a row has.
        """

    def build(self, graph: Graph, group: NeuronGroup) -> Any:
        """Return what the runner of the same package puts on the chip for a group."""


class ChipRunner(Backend, Protocol):
    """What a registered runner returns: a network on the chip, ready to read tokens. Inherit from it.

    Parameters
    ----------
    answer_seconds : float
        How long one read may take. A board that does not answer in time is let go of.
    """

    answer_seconds: float = 600.0

    @property
    def probes(self) -> Any:
        """What `cost.board.profiler.attach_probes` returned, to be read after `close`; None without profiling."""


Runner = Callable[[Net, Mapping[str, NeurocoreModel], int | None], ChipRunner]
"""Called with the network, the model of each role, and the most time steps that are to be profiled; None without
profiling. What computes on something else than a board has an attribute `needs_extension`, which is False."""


@dataclass(frozen=True)
class PlugIn:
    """An entry point of somebody else's, loaded.

    Parameters
    ----------
    group, name : str
    package, version : str, optional
        Of the package that registers it.
    loaded : object, optional
        None if there is a problem.
    problem : str, optional
        Why it cannot be used, for people.
    """

    group: str
    name: str
    package: str | None
    version: str | None
    loaded: Any = field(default=None, repr=False, compare=False)
    problem: str | None = None

    def __str__(self) -> str:
        return self.name if self.package is None else f"{self.name} of {self.package} {self.version}"

    def to_dict(self) -> dict[str, str | None]:
        """Return the JSON form."""
        return {name: getattr(self, name) for name in ("group", "name", "package", "version", "problem")}


def plug_ins(group: str | None = None) -> tuple[PlugIn, ...]:
    """Return what is registered under a group, or under all groups of this package, each loaded and checked."""
    found = entry_points()
    groups = sorted(each for each in found.groups if each.startswith(OURS)) if group is None else [group]
    return tuple(_load(each, name) for name in groups for each in found.select(group=name))


def _load(entry: EntryPoint, group: str) -> PlugIn:
    package, version = (None, None) if entry.dist is None else (entry.dist.name, entry.dist.version)
    try:
        loaded = entry.load()
        loaded = loaded() if group == MODELS_GROUP and isinstance(loaded, type) else loaded
    except Exception as error:  # whatever a package of somebody else raises; it is named
        return PlugIn(group, entry.name, package, version, None, f"does not load: {error}")
    problem = _problem(group, loaded)
    return PlugIn(group, entry.name, package, version, None if problem else loaded, problem)


def _problem(group: str, loaded: Any) -> str | None:
    """What a registered object lacks of what its group asks for."""
    what = type(loaded).__name__
    if group == MODELS_GROUP:
        missing = [name for name in ("refusal", "build") if not callable(getattr(loaded, name, None))]
        if missing:
            return f"no NeurocoreModel: {what} has no method {', '.join(missing)}"
    if group == RUNNERS_GROUP and not callable(loaded):
        return f"no runner: {what} cannot be called"
    return None


def needs_extension(runner: Any) -> bool:
    """Whether a registered runner drives what only Intel's extension of Lava can."""
    return bool(getattr(runner, "needs_extension", True))

"""Running on Loihi 2 itself: what must be there before a network is handed to the registered runner.

Lava's public release simulates; the compiler for neurocores is an extension that Intel gives to members of
its Neuromorphic Research Community. What drives the chip is confidential, so none of it is here: a package of
yours registers a model of each neuron group, written from the listing of its program (`loihi-mmfree inspect NET
--program NODE`) and held against its vectors, and a function that runs a placed graph with them (docs/loihi2.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loihi_mmfree.errors import BackendUnavailableError
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup, Role
from loihi_mmfree.ir.schedule import depth
from loihi_mmfree.manual import manual_page
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.session.held import HeldBoard
from loihi_mmfree.sim.session.hosts import Host, require_host
from loihi_mmfree.sim.session.plug_ins import (
    MODELS_GROUP,
    RUNNERS_GROUP,
    ChipRunner,
    NeurocoreModel,
    PlugIn,
    Runner,
    needs_extension,
    plug_ins,
)

HOW_TO_GET_IT = (
    "Intel gives it to members of its Neuromorphic Research Community (INRC); to join, write to "
    "inrc_interest@intel.com. Members install it beside lava-nc as Intel's instructions say. "
    "Without it, `backend='sim'` runs the same network bit-accurately on this machine."
)


def extension_installed() -> bool:
    """Whether Intel's Loihi extension of Lava can be found."""
    try:
        from lava.utils import loihi
    except ImportError:
        return False
    return bool(loihi.is_installed())


def state_of_extension() -> str:
    """Say whether Intel's extension is installed, and how to get it."""
    if extension_installed():
        return "Intel's extension of Lava is installed"
    return f"Intel's extension of Lava is not installed. {HOW_TO_GET_IT}"


def most_steps(graph: Graph, prompt_tokens: int, new_tokens: int) -> int:
    """Return the time steps of a run that generates all the tokens it may.

    A prompt is pipelined: a token enters a step, and the last one leaves `depth` steps later. Each generated token
    but the last, which nobody reads, falls through alone.

    Parameters
    ----------
    graph : Graph
        Lowered and scheduled.
    prompt_tokens, new_tokens : int
        At least one, and at least none.
    """
    deep = depth(graph)
    return prompt_tokens + deep + max(new_tokens - 1, 0) * (1 + deep)


@dataclass(frozen=True)
class RoleReadiness:
    """Whether neuron groups of one role can be put on the chip.

    Parameters
    ----------
    role : str
    groups, programs : int
        Of the network: how many groups, and how many different programs they run.
    example : str
        The first of them, whose listing and vectors a model is written from.
    model : str
        The registered model with its package; empty if there is none.
    problem : str
        What is missing or wrong, for people; empty if nothing is.
    """

    role: str
    groups: int
    programs: int
    example: str
    model: str
    problem: str


@dataclass(frozen=True)
class DryRun:
    """All that a run on the chip goes through before a board is held, without Intel's module.

    Parameters
    ----------
    roles : tuple of RoleReadiness
    runner : str
        With its package; empty if there is not one.
    runner_problem : str
    extension : str
        What is missing of Intel's extension; empty if nothing is, or if the runner needs none.
    host, host_problem : str
        Where a board would be asked for, and why none can be had there.
    system : str
    chips, cores, depth_steps : int
        Of the placement.
    """

    roles: tuple[RoleReadiness, ...]
    runner: str
    runner_problem: str
    extension: str
    host: str
    host_problem: str
    system: str
    chips: int
    cores: int
    depth_steps: int

    @property
    def problems(self) -> tuple[str, ...]:
        """All that stands in the way, for people."""
        found = (self.extension, self.runner_problem, *(each.problem for each in self.roles), self.host_problem)
        return tuple(each for each in found if each)

    @property
    def ready(self) -> bool:
        """Whether a run would get as far as the board."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {**asdict(self), "ready": self.ready, "problems": list(self.problems)}


def dry_run(net: Net) -> DryRun:
    """Go through plug-ins, host and placement of a run on the chip, and say what is missing.

    Raises
    ------
    ArtifactError
        placement.json is damaged or of another network.
    """
    models = plug_ins(MODELS_GROUP)
    runner, problem = _registered_runner()
    host = Host.of_environment()
    extension = "" if runner is not None and not needs_extension(runner.loaded) else _lack_of_extension()
    placement = net.placed.placement
    return DryRun(
        tuple(_readiness(net.graph, role, groups, models) for role, groups in _groups_by_role(net.graph).items()),
        "" if runner is None else str(runner),
        problem,
        extension,
        str(host),
        host.problem() if runner is None or needs_extension(runner.loaded) else "",
        placement.system,
        placement.chips_used,
        placement.cores_used,
        depth(net.graph),
    )


def open_chip(net: Net, profile_steps: int | None = None) -> ChipRunner:
    """Hand a network to the registered runner.

    Parameters
    ----------
    net : Net
    profile_steps : int, optional
        Measure time, energy and activity of at most so many time steps.

    Raises
    ------
    BackendUnavailableError
        As `find_runner` says.
    """
    return find_runner(net)(profile_steps)


def require_extension() -> None:
    """Refuse to run without Intel's extension, unless the registered runner needs none; called before all work.

    Raises
    ------
    BackendUnavailableError
    """
    registered, _ = _registered_runner()
    if (registered is None or needs_extension(registered.loaded)) and (lack := _lack_of_extension()):
        raise BackendUnavailableError(f"backend loihi2: {lack}")


def find_runner(net: Net) -> Callable[[int | None], ChipRunner]:
    """Return what hands a network to the registered runner, given the time steps to profile.

    Raises
    ------
    BackendUnavailableError
        Intel's extension, a model of a neuron group, or the runner is not there or not what it has to be, or the
        board's host does not answer: the message says which.
    """
    require_extension()
    registered, problem = _registered_runner()
    by_role = _groups_by_role(net.graph)
    models = plug_ins(MODELS_GROUP)
    lacking = [
        found.problem for role in by_role if (found := _readiness(net.graph, role, by_role[role], models)).problem
    ]
    if problem or lacking:
        raise BackendUnavailableError(
            "backend loihi2: "
            + "; ".join(each for each in (*lacking, problem) if each)
            + f" ({manual_page('loihi2.md')})"
        )
    assert registered is not None
    if needs_extension(registered.loaded):
        require_host(Host.of_environment())
    run: Runner = registered.loaded
    chosen: dict[str, NeurocoreModel] = {each.name: each.loaded for each in models if each.name in by_role}

    def open_network(profile_steps: int | None) -> ChipRunner:
        return HeldBoard(_require_runner(registered, run(net, chosen, profile_steps)))

    return open_network


def _registered_runner() -> tuple[PlugIn | None, str]:
    """The one runner, or what is wrong."""
    return _one(plug_ins(RUNNERS_GROUP), f"runner under the entry point group {RUNNERS_GROUP}")


def _lack_of_extension() -> str:
    if extension_installed():
        return ""
    return f"Intel's Loihi extension of Lava is not installed. {HOW_TO_GET_IT}"


def _groups_by_role(graph: Graph) -> Mapping[str, Sequence[NeuronGroup]]:
    """The neuron groups of each role that a graph has, roles in the order of their names."""
    found: dict[str, list[NeuronGroup]] = {role.value: [] for role in sorted(Role, key=lambda each: each.value)}
    for node in graph:
        if isinstance(node, NeuronGroup):
            found[node.role.value].append(node)
    return {role: groups for role, groups in found.items() if groups}


def _readiness(graph: Graph, role: str, groups: Sequence[NeuronGroup], models: Sequence[PlugIn]) -> RoleReadiness:
    model, problem = _one([each for each in models if each.name == role], f"neurocore model for {role}")
    if model is not None:
        problem = next((f"{model}: {why}" for each in groups if (why := _refusal(model, graph, each))), "")
    return RoleReadiness(
        role,
        len(groups),
        len({each.program for each in groups}),
        groups[0].name,
        "" if model is None else str(model),
        problem,
    )


def _refusal(model: PlugIn, graph: Graph, group: NeuronGroup) -> str:
    """Why a model refuses a group, with its name; empty if it does not."""
    try:
        found = model.loaded.refusal(graph, group)
    except Exception as error:  # whatever a package of somebody else raises; it is named
        return f"fails on {group.name}: {type(error).__name__}: {error}"
    return f"refuses {group.name}: {found}" if found else ""


def _one(found: Sequence[PlugIn], what: str) -> tuple[PlugIn | None, str]:
    """The one that is registered and can be used, or what is wrong."""
    if len(found) == 1:
        (each,) = found
        return (each, "") if each.problem is None else (None, f"{what}: {each}: {each.problem}")
    if not found:
        return None, f"no {what} is registered"
    return None, f"expected one {what}, found {', '.join(map(str, found))}"


def _require_runner(registered: PlugIn, opened: Any) -> ChipRunner:
    """Refuse what is no ChipRunner, and let go of it."""
    if ChipRunner in type(opened).__mro__:
        return opened
    if callable(close := getattr(opened, "close", None)):
        close()
    raise BackendUnavailableError(
        f"backend loihi2: {registered} returned a {type(opened).__name__}, which does not inherit from ChipRunner "
        f"({manual_page('loihi2.md')})"
    )

"""Running on Loihi 2 itself: what must be there, and where members of Intel's community plug their part in.

Lava's public release simulates; the compiler for neurocores is an extension that Intel gives to members of
its Neuromorphic Research Community. What drives the chip is confidential, so none of it is here: a package of
yours registers a model of each neuron group, written from the listing of its program (`loihi-mmfree inspect NET
--program NODE`), under the entry point group `loihi_mmfree.neurocore_models`, and a function that runs a placed
graph with them under `loihi_mmfree.chip_runners` (docs/loihi2.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol

from loihi_mmfree.errors import BackendUnavailableError
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.schedule import depth
from loihi_mmfree.manual import manual_page
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.backend import Backend

MODELS_GROUP = "loihi_mmfree.neurocore_models"
RUNNERS_GROUP = "loihi_mmfree.chip_runners"
HOW_TO_GET_IT = (
    "Intel gives it to members of its Neuromorphic Research Community (INRC); to join, write to "
    "inrc_interest@intel.com. Members install it beside lava-nc as Intel's instructions say. "
    "Without it, `backend='sim'` runs the same network bit-accurately on this machine."
)


class ChipRunner(Backend, Protocol):
    """What a registered runner returns: a network on the chip, ready to read tokens. Inherit from it."""

    @property
    def probes(self) -> Any:
        """What `cost.board.profiler.attach_probes` returned, to be read after `close`; None without profiling."""


Runner = Callable[[Net, Mapping[str, Any], int | None], ChipRunner]
"""Called with the network, the registered model of each role, and the most time steps that are to be profiled;
None without profiling."""


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


def find_runner(net: Net) -> Callable[[int | None], ChipRunner]:
    """Return what hands a network to the registered runner, given the time steps to profile.

    Raises
    ------
    BackendUnavailableError
        Intel's extension, a model of a neuron group, or the runner is not there: the message says which.
    """
    if not extension_installed():
        raise BackendUnavailableError(
            f"backend loihi2: Intel's Loihi extension of Lava is not installed. {HOW_TO_GET_IT}"
        )
    models = {each.name: each for each in entry_points(group=MODELS_GROUP)}
    needed = sorted({node.role.value for node in net.graph if isinstance(node, NeuronGroup)})
    missing = [role for role in needed if role not in models]
    if missing:
        raise BackendUnavailableError(
            f"backend loihi2: no neurocore model is registered for {', '.join(missing)}. "
            f"Register yours under the entry point group {MODELS_GROUP} ({manual_page('loihi2.md')})."
        )
    runners = list(entry_points(group=RUNNERS_GROUP))
    if len(runners) != 1:
        found = ", ".join(each.name for each in runners) or "none"
        raise BackendUnavailableError(
            f"backend loihi2: expected one runner under the entry point group {RUNNERS_GROUP}, found {found} "
            f"({manual_page('loihi2.md')})."
        )
    run: Runner = runners[0].load()
    loaded = {role: models[role].load() for role in needed}
    return lambda profile_steps: run(net, loaded, profile_steps)

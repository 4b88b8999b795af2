"""Running on Loihi 2 itself: what must be there, and where members of Intel's community plug their models in.

Lava's public release simulates; the compiler for neurocores is an extension that Intel gives to members of
its Neuromorphic Research Community. Neuron groups need a neurocore model each, written from the listing of
their program (`loihi-mmfree inspect NET --program NODE`). Such models are confidential, so none is here: a
package of yours registers them under the entry point group `loihi_mmfree.neurocore_models`.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import NoReturn

from loihi_mmfree.compiler.graph import Graph
from loihi_mmfree.compiler.nodes import NeuronGroup
from loihi_mmfree.errors import BackendUnavailableError

ENTRY_POINT_GROUP = "loihi_mmfree.neurocore_models"
HOW_TO_GET_IT = (
    "Intel gives it to members of its Neuromorphic Research Community (INRC); to join, write to "
    "inrc_interest@intel.com. Members install it beside lava-nc as Intel's instructions say. "
    "Without it, `--backend sim` runs the same network bit-accurately on this machine."
)


def extension_installed() -> bool:
    """Whether Intel's Loihi extension of Lava can be found."""
    try:
        from lava.utils import loihi
    except ImportError:
        return False
    return bool(loihi.is_installed())


def open_chip(graph: Graph) -> NoReturn:
    """Say what is missing to run on Loihi 2.

    Raises
    ------
    BackendUnavailableError
        Always, as long as no neurocore models exist outside Intel's community: first for the extension, then
        for the models that nobody registered.
    """
    if not extension_installed():
        raise BackendUnavailableError(
            f"backend loihi2: Intel's Loihi extension of Lava is not installed. {HOW_TO_GET_IT}"
        )
    registered = {each.name for each in entry_points(group=ENTRY_POINT_GROUP)}
    needed = sorted({node.role for node in graph if isinstance(node, NeuronGroup)} - registered)
    raise BackendUnavailableError(
        f"backend loihi2: no neurocore model is registered for {', '.join(needed) or 'the host interface'}. "
        f"Register yours under the entry point group {ENTRY_POINT_GROUP} (docs/loihi2.md)."
    )

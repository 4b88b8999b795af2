"""What a run on Loihi 2 needs, and what of it is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loihi_mmfree.api.networks import AnyNet, loaded
from loihi_mmfree.errors import BackendUnavailableError

if TYPE_CHECKING:
    from loihi_mmfree.sim.session.chip import DryRun
    from loihi_mmfree.sim.session.plug_ins import PlugIn


def dry_run(net: AnyNet) -> DryRun:
    """Go through all that a run on Loihi 2 does before a board is held, and say what is missing.

    Nothing of Intel's is needed. Plug-ins of others are imported.
    """
    from loihi_mmfree.sim.session.chip import dry_run

    return dry_run(loaded(net))


def plug_ins() -> tuple[PlugIn, ...]:
    """Return what packages of others have registered, each loaded and held against what it has to be."""
    from loihi_mmfree.sim.session.plug_ins import plug_ins

    return plug_ins()


def chip_extension() -> str:
    """Say whether what drives a Loihi 2 is installed, and how to get it."""
    from loihi_mmfree.sim.session.chip import state_of_extension

    return state_of_extension()


def chip_host() -> str:
    """Say which host of a board the environment names, and why none can be had there, if so."""
    from loihi_mmfree.sim.session.hosts import Host

    try:
        host = Host.of_environment()
    except BackendUnavailableError as error:
        return str(error)
    problem = host.problem()
    return f"{host}: {problem}" if problem else str(host)

"""A network becomes hardware."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loihi_mmfree import defaults
from loihi_mmfree.api.networks import AnyNet, loaded

if TYPE_CHECKING:
    from loihi_mmfree.rtl.emission import Emission


def emit(
    net: AnyNet,
    output: str | Path,
    *,
    weights_per_cycle: int = defaults.WEIGHTS_PER_CYCLE,
    lanes: int = defaults.LANES,
    force: bool = False,
) -> Emission:
    """Write the core of a network: Verilog, programs, weights, a listing, and a manifest with hashes.

    Parameters
    ----------
    net : Net, str or Path
        A compiled network or its folder.
    output : str or Path
        The folder to write.
    weights_per_cycle : {32, 64, 128, 256}
        Ternary weights that the product unit takes in a cycle.
    lanes : {4, 8, 16, 32}
        Neurons that the vector unit computes in a cycle.
    force : bool
        Replace a core that is there.

    Raises
    ------
    UsageError
        A size that no core has, or a folder that is in the way.
    DoesNotFitError
        The network needs more than the core has.
    BackendUnavailableError
        Amaranth, which the extra `rtl` brings, is not installed.
    """
    from loihi_mmfree.rtl.emission import emit_core
    from loihi_mmfree.rtl.parameters import Size

    return emit_core(loaded(net), Path(output), Size(weights_per_cycle, lanes), force)


def check_core(net: AnyNet, path: str | Path) -> None:
    """Hold every file of an emitted core against its manifest, and that against the network.

    Parameters
    ----------
    net : Net, str or Path
        A compiled network or its folder.
    path : str or Path
        The folder that `emit` wrote.

    Raises
    ------
    ArtifactError
        A file is missing or altered, or the core is another network's.
    """
    from loihi_mmfree.rtl.emission import check_emission

    check_emission(Path(path), loaded(net))

"""What is known of a network: whether it is right, what it consists of, what it costs, how fast it is here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loihi_mmfree import defaults
from loihi_mmfree.api.networks import AnyNet, folder, loaded
from loihi_mmfree.net.artifact import load_net
from loihi_mmfree.progress import Progress, watched_progress

if TYPE_CHECKING:
    from loihi_mmfree.report.netx import NetxExport
    from loihi_mmfree.report.shown import GroupProgram, Inspection, NetworkReport
    from loihi_mmfree.report.vectors.folder import Vectors
    from loihi_mmfree.sim.session.bench import Bench
    from loihi_mmfree.sim.session.compare import Comparison


def compare(
    net: AnyNet, checkpoint: str | Path | None = None, *, lava: bool = True, backend: str | None = None
) -> Comparison:
    """Hold a network against its manifest, its golden messages, its checkpoint if given, and Lava.

    Parameters
    ----------
    net : Net, str or Path
        A compiled network or its folder.
    checkpoint : str or Path, optional
        Where it was compiled from.
    lava : bool
        Also run the operator graph on Lava.
    backend : {"sim", "engine", "torch", "rtl", "loihi2"}, optional
        Also hold every message of this one against the engine's, if it shows them, and its logits against the
        golden ones: of tokens read together, and after a reset one by one.
    """
    from loihi_mmfree.sim.session.compare import compare_net

    # From its files, unchecked: what is altered in them is to be found.
    loaded = load_net(folder(net), verify=False)
    return compare_net(loaded, None if checkpoint is None else Path(checkpoint), lava, backend)


def inspect(net: AnyNet) -> Inspection:
    """Say what a network consists of and where it lies: blocks, chips, cores, traffic, formats, depth."""
    from loihi_mmfree.report.shown import Inspection

    return Inspection.of(loaded(net))


def program(net: AnyNet, node: str) -> GroupProgram:
    """Describe a neuron group, complete enough to write its microcode; as text it is the listing with its header.

    Raises
    ------
    UsageError
        There is no such group.
    """
    from loihi_mmfree.report.shown import GroupProgram

    return GroupProgram.of(loaded(net), node)


def vectors(net: AnyNet, output: str | Path, nodes: Sequence[str] = ()) -> Vectors:
    """Write what every neuron group and projection must give, to hold an implementation for the chip against.

    Parameters
    ----------
    net : Net, str or Path
    output : str or Path
        A new folder: `vectors.json`, a description and an archive of arrays for each node, and `check_vectors.py`,
        which needs NumPy alone.
    nodes : sequence of str
        Names of neuron groups, and of synapses that add up; all without any.
    """
    from loihi_mmfree.report.vectors.folder import write_vectors

    return write_vectors(loaded(net), Path(output), nodes)


def export(net: AnyNet, output: str | Path, *, format: str = defaults.EXPORT_FORMAT) -> NetxExport:
    """Write what other programs can read of a network.

    Parameters
    ----------
    net : Net, str or Path
    output : str or Path
        The file to write.
    format : {"netx"}
        The ternary projections, as layers for lava-dl's netx.

    Raises
    ------
    UsageError
        An unknown format, or the file cannot be written.
    BackendUnavailableError
        A package that the format needs is not installed.
    """
    from loihi_mmfree.report.netx import write_netx
    from loihi_mmfree.sim.session.opening import require_known

    require_known("format", format, defaults.EXPORT_FORMATS)
    return write_netx(loaded(net), Path(output))


def report(net: AnyNet, *, sweep: bool = False) -> NetworkReport:
    """Model time and energy of a network on Loihi 2, from its placement and recorded activity.

    `sweep` also models its variations.
    """
    from loihi_mmfree.report.shown import NetworkReport

    return NetworkReport.of(loaded(net), sweep)


def bench(
    net: AnyNet,
    backends: Sequence[str] = defaults.BENCH_BACKENDS,
    granularities: Sequence[str] = defaults.BENCH_GRANULARITIES,
    prompt_tokens: Sequence[int] = defaults.BENCH_PROMPT_TOKENS,
    new_tokens: int = defaults.BENCH_NEW_TOKENS,
    *,
    repeats: int = defaults.BENCH_REPEATS,
    warm_up: int = defaults.BENCH_WARM_UP,
    progress: Progress | None = None,
) -> Bench:
    """Measure throughput on this machine: medians and spread, prefill and decode apart.

    Parameters
    ----------
    net : Net, str or Path
    backends : sequence of str, see `defaults.MEASURABLE_BACKENDS`
    granularities : sequence of {"operator", "block", "network"}, for "sim"
    prompt_tokens : sequence of int
        Lengths of prompts.
    new_tokens : int
        Tokens read one by one after each.
    repeats, warm_up : int
        Counted and uncounted runs of each combination.
    progress : callable, optional
        As for `compile`.
    """
    from loihi_mmfree.sim.session.bench import measure, require_measurable

    require_measurable(backends, granularities, prompt_tokens, new_tokens, repeats, warm_up)
    show, network = progress or watched_progress(), loaded(net)
    return measure(network, backends, granularities, prompt_tokens, new_tokens, repeats, warm_up, show)

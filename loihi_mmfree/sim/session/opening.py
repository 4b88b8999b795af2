"""The backends by name."""

from __future__ import annotations

from loihi_mmfree.errors import UsageError
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.session.backend import Backend

BACKENDS = ("engine", "sim", "loihi2")
GRANULARITIES = ("operator", "block", "network")
RUNTIMES = ("inprocess", "stock")
KERNELS = ("compiled", "numpy")


def open_backend(
    net: Net,
    backend: str,
    granularity: str = "operator",
    runtime: str = "inprocess",
    kernels: str = "compiled",
) -> Backend:
    """Return what is to run a network; Lava and the chip are imported only when asked for.

    Raises
    ------
    UsageError
        An unknown name.
    BackendUnavailableError
        What the backend needs is not installed.
    """
    for what, name, known in (
        ("backend", backend, BACKENDS),
        ("granularity", granularity, GRANULARITIES),
        ("runtime", runtime, RUNTIMES),
        ("kernels", kernels, KERNELS),
    ):
        if name not in known:
            raise UsageError(f"{what}: unknown {name!r}; known: {', '.join(known)}")
    if backend == "engine":
        return _open_engine(net, kernels)
    if backend == "sim":
        from loihi_mmfree.sim.lava.network import LavaNetwork

        return LavaNetwork(net.graph, granularity, runtime, kernels=kernels)
    from loihi_mmfree.sim.session.chip import open_chip

    return open_chip(net)


def _open_engine(net: Net, kernels: str) -> Backend:
    if kernels == "numpy":
        from loihi_mmfree.sim.engine.specification import Engine

        return Engine(net.graph, strict=True)
    from loihi_mmfree.sim.engine.compiled import FastEngine

    return FastEngine(net.graph, strict=True)

"""The backends by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loihi_mmfree import defaults
from loihi_mmfree.activity.observer import NOBODY, Observer
from loihi_mmfree.errors import UsageError
from loihi_mmfree.memory import release_code_of
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.backend import Backend


@dataclass(frozen=True)
class Choice:
    """What is to run a network.

    Parameters
    ----------
    backend : {"sim", "engine", "torch", "rtl", "loihi2"}
        Lava's CPU simulation, the integer engine, the same integers in PyTorch, the core in RTL, or the chip.
    granularity : {"operator", "block", "network"}
        How much of the network one Lava process holds.
    runtime : {"inprocess", "stock"}
        Lava in this process, or Lava's own runtime with a process for every Lava process.
    kernels : {"compiled", "numpy"}
        What engine and simulation compute with.
    device : str, optional
        Where "torch" computes, as PyTorch names it; by default a GPU if there is one.

    Raises
    ------
    UsageError
        An unknown name.
    """

    backend: str = defaults.BACKEND
    granularity: str = defaults.GRANULARITY
    runtime: str = defaults.RUNTIME
    kernels: str = defaults.KERNEL
    device: str | None = None

    def __post_init__(self) -> None:
        require_known("backend", self.backend, defaults.BACKENDS)
        require_known("granularity", self.granularity, defaults.GRANULARITIES)
        require_known("runtime", self.runtime, defaults.RUNTIMES)
        require_known("kernels", self.kernels, defaults.KERNELS)
        if self.device is not None and self.backend != "torch":
            raise UsageError(
                f"device {self.device!r} is of the torch backend, which computes on one; not of {self.backend}"
            )

    def __str__(self) -> str:
        """What runs, for people."""
        if self.backend == "engine":
            return f"engine, {self.kernels} kernels"
        if self.backend == "torch":
            return "torch" if self.device is None else f"torch, {self.device}"
        return f"{self.backend}, {self.granularity}" if self.backend == "sim" else self.backend


def require_known(what: str, name: str, known: Sequence[str]) -> None:
    """Refuse a name that is none of those known.

    Raises
    ------
    UsageError
    """
    if name not in known:
        raise UsageError(f"{what}: unknown {name!r}; known: {', '.join(known)}")


def prepare(choice: Choice) -> None:
    """Load what a backend computes with before a network takes memory, and refuse what is not installed.

    LLVM needs most when it starts.

    Raises
    ------
    BackendUnavailableError
        What drives a chip is not installed.
    """
    if choice.backend == "engine" and choice.kernels == "compiled":
        import llvmlite.binding  # noqa: F401

        release_code_of("libllvmlite")
    if choice.backend == "loihi2":
        from loihi_mmfree.sim.session.chip import require_extension

        require_extension()


def open_backend(net: Net, choice: Choice, observer: Observer = NOBODY, threads: int | None = None) -> Backend:
    """Return what is to run a network; Lava and the chip are imported only when asked for.

    Parameters
    ----------
    net : Net
    choice : Choice
    observer : Observer
        Is told what the network sends. Values are shown by the NumPy kernels, whichever are chosen: the bits are
        the same.
    threads : int, optional
        Of the compiled engine; by default as many as there are processors.

    Raises
    ------
    UsageError
        The backend does not show what the observer asks for.
    BackendUnavailableError
        What the backend needs is not installed.
    """
    if choice.backend == "engine":
        return _open_engine(net, choice.kernels, observer, threads)
    if choice.backend == "sim":
        from loihi_mmfree.sim.lava.network import LavaNetwork

        return LavaNetwork(
            net.graph, choice.granularity, choice.runtime, kernels=choice.kernels, observer=observer
        )
    if choice.backend == "torch":
        from loihi_mmfree.sim.batched.engine import BatchedEngine, open_device

        return BatchedEngine(net.graph, open_device(choice.device), observer)
    if choice.backend == "rtl":
        from loihi_mmfree.sim.rtl import RtlCore

        return RtlCore(net.graph, observer=observer)
    from loihi_mmfree.sim.session.chip import open_chip

    observer.require(set(), "a chip", "use the engine, or sim at operator granularity")
    return open_chip(net)


def _open_engine(net: Net, kernels: str, observer: Observer, threads: int | None) -> Backend:
    if kernels == "numpy" or observer.values or observer.incidents:
        from loihi_mmfree.sim.engine.specification import Engine

        return Engine(net.graph, strict=True, observer=observer)
    from loihi_mmfree.sim.engine.compiled import FastEngine

    return FastEngine(net.graph, strict=True, threads=threads, observer=observer)

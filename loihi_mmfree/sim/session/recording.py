"""Running a network and counting what it sends and clamps, whatever runs it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.counts import Activity, ActivityRecorder, recorded_activity
from loihi_mmfree.errors import UsageError
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.engine.compiled import FastEngine
from loihi_mmfree.sim.engine.specification import Engine

if TYPE_CHECKING:
    from loihi_mmfree.sim.lava.network import LavaNetwork


class Recording:
    """A backend that counts by token.

    Parameters
    ----------
    net : Net
    backend : FastEngine, Engine or LavaNetwork
        The compiled engine counts in its kernels. Any other is tapped, Lava at operator granularity.
    origin : str
        What runs, for people.
    histograms : bool
        Also sort values by their magnitude, which only a tap can do.
    """

    def __init__(
        self, net: Net, backend: FastEngine | Engine | LavaNetwork, origin: str, histograms: bool = False
    ) -> None:
        self._graph, self._backend, self._origin = net.graph, backend, origin
        self._ids_read = hashlib.sha256()
        counts = isinstance(backend, FastEngine) and not histograms
        self._recorder = None if counts else ActivityRecorder(net.graph, histograms)

    @property
    def logit_scale(self) -> float:
        """Real value of one unit of a logit."""
        return self._backend.logit_scale

    @property
    def steps(self) -> int:
        """Time steps of the backend so far."""
        return self._backend.steps

    @property
    def counters(self) -> Counters:
        """Saturations and overflows so far."""
        return self._backend.counters

    @property
    def activity(self) -> Activity:
        """What was sent so far."""
        about = self._origin, self._ids_read.hexdigest()
        if self._recorder is not None:
            return self._recorder.activity(*about)
        assert isinstance(self._backend, FastEngine)
        return recorded_activity(self._graph, self._backend.messages, self._backend.incidents, *about)

    def process(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """Read tokens and return the logits after each of them."""
        self._ids_read.update(ids.astype("<i8").tobytes())
        if self._recorder is None:
            return self._backend.process(ids)
        return self._backend.process(ids, self._recorder, self._recorder.tally)

    def close(self) -> None:
        """Release the backend."""
        self._backend.close()


def open_recording(
    net: Net, backend: str, granularity: str, runtime: str, kernels: str, histograms: bool = False
) -> Recording:
    """Return what is to run a network and count its messages.

    Raises
    ------
    UsageError
        Where not every message can be seen: inside the coarser processes of Lava, or on a chip.
    """
    origin = f"{backend}, {kernels} kernels" if backend == "engine" else f"{backend}, {granularity}"
    if backend == "engine" and kernels == "compiled":
        return Recording(net, FastEngine(net.graph, strict=True, record=not histograms), origin, histograms)
    if backend == "engine":
        return Recording(net, Engine(net.graph, strict=True), origin, histograms)
    if backend == "sim" and granularity == "operator":
        from loihi_mmfree.sim.lava.network import LavaNetwork

        lava = LavaNetwork(net.graph, granularity, runtime, taps=True, kernels=kernels)
        return Recording(net, lava, origin, histograms)
    raise UsageError(
        f"activity cannot be recorded with {backend} at {granularity} granularity; use the engine, or sim at "
        "operator granularity"
    )

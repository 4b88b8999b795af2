"""Runs a network with the registered models. Yours opens a board; this one computes with the integer engine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.cost.board.profiler import Probes
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.schedule import depth
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.backend import TakeLogits
from loihi_mmfree.sim.engine.compiled import FastEngine
from loihi_mmfree.sim.session.plug_ins import ChipRunner, NeurocoreModel


class EngineRunner(ChipRunner):
    """A network as if it were on a board.

    Parameters
    ----------
    net : Net
        Its graph, and in `placed` the cores that every neuron belongs on.
    models : mapping of str to NeurocoreModel
        The registered model of each role that the network has.
    profile_steps : int, optional
        How many time steps the probes have to record at most; None without profiling.
    """

    needs_extension = False
    answer_seconds = 60.0

    def __init__(self, net: Net, models: Mapping[str, NeurocoreModel], profile_steps: int | None) -> None:
        groups = [node for node in net.graph if isinstance(node, NeuronGroup)]
        self.microcode = {each.name: models[each.role.value].build(net.graph, each) for each in groups}
        # Here yours compiles, asks for a board, and attaches probes to its run configuration.
        self._board = FastEngine(net.graph, strict=True)
        self._depth, self._steps, self._seconds, self._profiled = (
            depth(net.graph),
            0,
            0.0,
            profile_steps is not None,
        )

    @property
    def logit_scale(self) -> float:
        """Real value of one unit of a logit."""
        return self._board.logit_scale

    @property
    def steps(self) -> int:
        """Time steps that a chip would have run: tokens in one call are pipelined."""
        return self._steps

    @property
    def counters(self) -> Counters:
        """What was clamped; a board may not tell."""
        return self._board.counters

    @property
    def probes(self) -> Probes | None:
        """What was measured, and how; read after `close`."""
        if not self._profiled:
            return None
        return Probes(
            power=None,
            time=SimpleNamespace(avg_time_per_step=1e6 * self._seconds / self._steps),
            activity=SimpleNamespace(),
            method="clock of this machine",
            scope="integer engine of this machine, no board; the whole run",
        )

    def read(self, ids: NDArray[np.int64], take: TakeLogits | None = None) -> NDArray[np.int32]:
        """Read tokens, and give the logits of each to `take`."""
        began = time.perf_counter()
        logits = self._board.read(ids, take)
        self._seconds += time.perf_counter() - began
        self._steps += len(ids) + self._depth
        return logits

    def reset(self) -> None:
        """Begin a new sequence."""
        self._board.reset()

    def close(self) -> None:
        """Let go of the board."""
        self._board.close()

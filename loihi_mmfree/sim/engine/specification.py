"""The integer engine: the neuron programs over NumPy, with neither Lava nor torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.observer import NOBODY, Observer, Taps
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.ir.executor import Executor
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.sim.backend import GraphBackend, TakeLogits

TOKENS_TOGETHER = 64
"""Most tokens whose values are held at once."""


class Engine(GraphBackend):
    """Runs a network token-exactly and keeps its recurrent state between calls.

    Parameters
    ----------
    graph : Graph
        Lowered.
    strict : bool
        Check every register and accumulator against its declared width and count overflows.
    observer : Observer
        Is told all that it asks for, as it is computed; `incidents` of synapses if strict.
    """

    def __init__(self, graph: Graph, strict: bool = False, observer: Observer = NOBODY) -> None:
        super().__init__(graph)
        inner = tuple(node for node in graph if node is not self._tokens)
        self._executor = Executor(graph, inner, strict)
        self._taps = Taps(graph, observer)

    @property
    def counters(self) -> Counters:
        """Saturations and overflows since the engine was made."""
        return self._executor.counters

    def state(self, node: str) -> dict[str, Integers]:
        """Return the state variables of a neuron group, int64 [n] by name."""
        return self._executor.evaluators[node].variables

    def reset(self) -> None:
        """Forget the sequence so far."""
        self._executor.reset()

    def read(self, ids: NDArray[np.int64], take: TakeLogits | None = None) -> NDArray[np.int32]:
        """Read tokens and return the logits after the last; see `Backend.read`."""
        wanted = self._logits.inputs[0]
        for piece in np.split(ids, range(TOKENS_TOGETHER, len(ids), TOKENS_TOGETHER)):
            rows: Integers = self.graph.tensors[self._tokens.table][piece].astype(np.int64)
            self._taps.begin(len(piece))
            values = self._executor.run({self._tokens.out(): rows}, [wanted], self._taps.tap, self._taps.tally)
            self._taps.end()
            self._steps += len(piece)
            logits = values[wanted].astype(np.int32)
            if take is not None:
                take(logits)
        return logits[-1].copy()

    def close(self) -> None:
        """Release nothing: the engine holds only memory."""

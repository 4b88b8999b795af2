"""The integer engine: the neuron programs over NumPy, with neither Lava nor torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.ir.executor import Executor, Tally, Tap
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import logits_output, token_input


class Engine:
    """Runs a network token-exactly and keeps its recurrent state between calls.

    Parameters
    ----------
    graph : Graph
        Lowered.
    strict : bool
        Check every register and accumulator against its declared width and count overflows.
    """

    def __init__(self, graph: Graph, strict: bool = False) -> None:
        self.graph = graph
        self._tokens, self._logits = token_input(graph), logits_output(graph)
        inner = tuple(node for node in graph if node is not self._tokens)
        self._executor = Executor(graph, inner, strict)
        self._tokens_read = 0

    @property
    def logit_scale(self) -> float:
        """Real value of one unit of a logit."""
        return self._logits.scale

    @property
    def steps(self) -> int:
        """Tokens read since the engine was made: it knows no time steps."""
        return self._tokens_read

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

    def process(
        self, ids: NDArray[np.int64], tap: Tap | None = None, tally: Tally | None = None
    ) -> NDArray[np.int32]:
        """Read tokens and return the logits after each of them.

        Parameters
        ----------
        ids : int64 array [T]
            At least one id below the vocabulary size.
        tap : callable, optional
            Called with (Source, int64 array [T, n]) for every message, as it is computed.
        tally : callable, optional
            Called with (node, int64 array [T, 2]) for every node that counts: saturations and overflows.

        Returns
        -------
        int32 array [T, V]
            Times `logit_scale`, the real logits.
        """
        rows: Integers = self.graph.tensors[self._tokens.table][ids].astype(np.int64)
        self._tokens_read += len(rows)
        wanted = self._logits.inputs[0]
        values = self._executor.run({self._tokens.out(): rows}, [wanted], tap, tally)
        return values[wanted].astype(np.int32)

    def close(self) -> None:
        """Release nothing: the engine holds only memory."""

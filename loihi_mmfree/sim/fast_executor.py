"""The compiled kernels in the place of the executor over NumPy, for a Lava process that holds a whole network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from loihi_mmfree.compiler.graph import Graph, Node, Source
from loihi_mmfree.compiler.nodes import LogitsOut, NeuronGroup, TokenIn
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.sim.fast import FastEngine


class FastExecutor:
    """Evaluates all nodes between the host's ends, as `compiler.executor.Executor` would.

    Parameters
    ----------
    graph : Graph
        Lowered.
    nodes : tuple of Node
        All of its nodes but TokenIn and LogitsOut.
    strict : bool
        Check every register and accumulator against its declared width and count overflows.
    """

    def __init__(self, graph: Graph, nodes: tuple[Node, ...], strict: bool) -> None:
        host = [node for node in graph if isinstance(node, TokenIn | LogitsOut)]
        if len(nodes) + len(host) != len(graph.nodes):
            raise ValueError("the compiled kernels run a whole network, found a part of one")
        self._tokens = next(node for node in host if isinstance(node, TokenIn)).out()
        self._engine = FastEngine(graph, strict)
        self.variables = {
            node.name: self._engine.state(node.name)
            for node in nodes
            if isinstance(node, NeuronGroup) and node.program.states
        }

    @property
    def counters(self) -> Counters:
        """Saturations and overflows since the beginning."""
        return self._engine.counters

    def run(self, inputs: Mapping[Source, Integers], wanted: Iterable[Source]) -> dict[Source, Integers]:
        """Run tokens through the network; `wanted` holds the accumulators of the head only."""
        (logits,) = wanted
        rows = inputs[self._tokens].astype(np.int32)
        return {logits: self._engine.process_rows(rows).astype(np.int64)}

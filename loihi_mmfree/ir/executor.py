"""Runs the nodes of a lowered graph, or of a part of it, token by token exactly.

Time steps are left out: a delay passes its input on. What a token's values are does not depend on when its
messages travel, because a group acts on a token when all its inputs have arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.ir.contract import Evaluator
from loihi_mmfree.ir.graph import Graph, Node, Source

Tap = Callable[[Source, Integers], None]
"""Called with a message and its values [T, n]."""
Tally = Callable[[str, Integers], None]
"""Called with a node and what it counted, int64 [T, 2]: saturations and overflows of each token."""


@dataclass
class Executor:
    """Evaluates nodes in order over NumPy int64.

    Parameters
    ----------
    graph : Graph
        Lowered.
    nodes : tuple of Node
        The part of the graph to run, in the graph's order.
    strict : bool
        Check every register against its declared width and every accumulator against the chip's, and count
        overflows.
    """

    graph: Graph
    nodes: tuple[Node, ...]
    strict: bool = False
    evaluators: dict[str, Evaluator] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.nodes:
            self.evaluators[node.name] = node.evaluator(self.graph.tensors, self.graph.chip, self.strict)
        self._last_reader = {source: node.name for node in self.nodes for source in node.inputs}

    def reset(self) -> None:
        """Set all states to zero: the beginning of a sequence."""
        for node in self.nodes:
            zeros = {name: np.zeros(size, dtype=np.int64) for name, size in node.states.items()}
            self.evaluators[node.name].variables.update(zeros)

    @property
    def variables(self) -> dict[str, dict[str, Integers]]:
        """State variables of every group that has any, int64 [n] by group and name."""
        return {name: each.variables for name, each in self.evaluators.items() if each.variables}

    @property
    def counters(self) -> Counters:
        """Saturations and overflows of all nodes since the beginning."""
        return Counters.total(each.counters for each in self.evaluators.values())

    def run(
        self,
        inputs: Mapping[Source, Integers],
        wanted: Iterable[Source] = (),
        tap: Tap | None = None,
        tally: Tally | None = None,
    ) -> dict[Source, Integers]:
        """Run a sequence of T tokens through the nodes.

        Parameters
        ----------
        inputs : mapping Source -> integer array [T, n]
            Values that come from outside the nodes.
        wanted : iterable of Source
            What to return; everything else is freed after its last reader.
        tap : callable, optional
            Called with every value as it is computed.
        tally : callable, optional
            Called with what every neuron group and, if strict, every accumulating synapse counted.

        Returns
        -------
        dict Source -> int64 array [T, n]
        """
        values = {source: value.astype(np.int64, copy=False) for source, value in inputs.items()}
        kept = set(wanted)
        for node in self.nodes:
            arguments = [values[source] for source in node.inputs]
            outputs, counted = self.evaluators[node.name].run(arguments)
            if tally is not None and counted is not None:
                tally(node.name, counted)
            for port, value in outputs.items():
                values[node.out(port)] = value
                if tap is not None:
                    tap(node.out(port), value)
            for source in node.inputs:
                if self._last_reader[source] == node.name and source not in kept:
                    values.pop(source, None)
        return {source: values[source] for source in kept}


def counting_nodes(graph: Graph) -> tuple[str, ...]:
    """Return the nodes that can count a saturation or an overflow: neuron groups and accumulating synapses."""
    return tuple(node.name for node in graph if node.counts)

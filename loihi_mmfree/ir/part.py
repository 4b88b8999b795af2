"""A part of a graph: what goes in and out, and what runs it on messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.ir.executor import Executor
from loihi_mmfree.ir.graph import Graph, Node, Source


@dataclass(frozen=True)
class Part:
    """Nodes of a graph, what they read from elsewhere, and what is read elsewhere.

    Parameters
    ----------
    graph : Graph
        Lowered.
    nodes : tuple of Node
        In the graph's order; none of the host's.
    inputs, results : tuple of Source
    """

    graph: Graph
    nodes: tuple[Node, ...]
    inputs: tuple[Source, ...]
    results: tuple[Source, ...]

    @classmethod
    def of(cls, graph: Graph, nodes: Iterable[Node]) -> Part:
        """Find out what goes in and out of some nodes."""
        nodes = tuple(nodes)
        own = {node.name for node in nodes}
        inputs = dict.fromkeys(source for node in nodes for source in node.inputs if source.node not in own)
        results = (
            source
            for source, readers in graph.consumers.items()
            if source.node in own and any(reader.name not in own for reader in readers)
        )
        return cls(graph, nodes, tuple(inputs), tuple(results))

    @classmethod
    def between_the_hosts_ends(cls, graph: Graph) -> Part:
        """Return all of a network but its host."""
        return cls.of(graph, (node for node in graph if not node.host_end))

    def size_of(self, source: Source) -> int:
        """Return the number of elements of a message."""
        return self.graph.by_name[source.node].outputs[source.port]


class PartExecutor:
    """Runs a part over NumPy: the specification of `sim.engine.part_executor.FastExecutor`.

    Parameters
    ----------
    part : Part
    strict : bool
        Check every register and accumulator against its declared width and count overflows.
    tokens : int
        Most tokens in a call.
    """

    def __init__(self, part: Part, strict: bool, tokens: int = 1) -> None:
        self._part, self._tokens = part, tokens
        self._executor = Executor(part.graph, part.nodes, strict)

    @property
    def variables(self) -> Mapping[str, dict[str, Integers]]:
        """State variables of every group that has any, int64 [n] by group and name."""
        return self._executor.variables

    @property
    def counters(self) -> Counters:
        """Saturations and overflows since the beginning."""
        return self._executor.counters

    def step(self, messages: Sequence[np.ndarray]) -> list[Integers]:
        """Run one token.

        Parameters
        ----------
        messages : sequence of integer array [n]
            In the order of the part's inputs.

        Returns
        -------
        list of integer array [n]
            In the order of the part's results; they may be overwritten by the next token.
        """
        inputs = {source: each[np.newaxis] for source, each in zip(self._part.inputs, messages, strict=True)}
        values = self._executor.run(inputs, self._part.results)
        return [values[source][0] for source in self._part.results]

    def run(self, messages: Sequence[np.ndarray], tokens: int) -> list[Integers]:
        """Run some tokens.

        Parameters
        ----------
        messages : sequence of integer array [T, n]
            In the order of the part's inputs; T is the most tokens in a call.
        tokens : int
            How many of the rows count.

        Returns
        -------
        list of integer array [T, n]
            In the order of the part's results; other rows are zero.
        """
        inputs = {source: each[:tokens] for source, each in zip(self._part.inputs, messages, strict=True)}
        values = self._executor.run(inputs, self._part.results)
        empty = (0, self._tokens - tokens), (0, 0)
        return [np.pad(values[source], empty) for source in self._part.results]

"""The compiled kernels in the place of the executor over NumPy, for Lava processes of many nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.ir.graph import Graph, Node
from loihi_mmfree.ir.part import Part
from loihi_mmfree.sim.engine.core import FastCore
from loihi_mmfree.sim.engine.team import ProgramLibrary, Team, available_threads


class FastExecutor:
    """Runs a part as `ir.part.PartExecutor` would.

    Parameters
    ----------
    part : Part
    strict : bool
        Check every register and accumulator against its declared width and count overflows.
    team : Team
    library : ProgramLibrary
    tokens : int
        Most tokens in a call.

    Attributes
    ----------
    variables : mapping node -> mapping state -> int64 array [n]
        The recurrent state itself.

    Raises
    ------
    NotPlannedError
        The nodes hold something that the kernels do not know.
    """

    def __init__(self, part: Part, strict: bool, team: Team, library: ProgramLibrary, tokens: int = 1) -> None:
        self._part, self._core = part, FastCore(part, tokens, strict, team, library)
        self._room = [np.zeros((tokens, part.size_of(each)), np.int32) for each in part.results if tokens > 1]
        self.variables = self._core.states

    @property
    def counters(self) -> Counters:
        """Saturations and overflows since the beginning."""
        return self._core.counters

    def step(self, messages: Sequence[np.ndarray]) -> list[NDArray[np.int32]]:
        """Run one token; see `PartExecutor.step`."""
        return self._core.step(messages)

    def run(self, messages: Sequence[np.ndarray], tokens: int) -> list[NDArray[np.int32]]:
        """Run some tokens; see `PartExecutor.run`. Rows of no token hold anything, and all the next call's."""
        inputs = {source: each[:tokens] for source, each in zip(self._part.inputs, messages, strict=True)}
        results = {source: each[:tokens] for source, each in zip(self._part.results, self._room, strict=True)}
        self._core.run(inputs, results)
        return self._room


class FastExecutors:
    """Makes executors for parts of a graph, which share threads and machine code."""

    def __init__(self) -> None:
        self._team, self._library = Team(available_threads()), ProgramLibrary()

    def __call__(self, part: Part, strict: bool, tokens: int = 1) -> FastExecutor:
        """Return an executor for up to `tokens` tokens in a call."""
        return FastExecutor(part, strict, self._team, self._library, tokens)

    def of_node(self, graph: Graph, node: Node, strict: bool) -> Callable[[], FastExecutor] | None:
        """Return what makes the executor of a single node, with messages in the order of its inputs and outputs.

        None for a node that reads one message twice: its inputs are not those of a part.
        """
        if len(set(node.inputs)) < len(node.inputs):
            return None
        return partial(self, Part(graph, (node,), node.inputs, tuple(map(node.out, node.outputs))), strict)

    def close(self) -> None:
        """End the threads."""
        self._team.close()

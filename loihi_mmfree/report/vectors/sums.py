"""Cases of a synapse that adds up: golden tokens, the largest sums that the proof allows, and random inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.ir.contract import Evaluator
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.synapses import Synapse, TernarySynapse
from loihi_mmfree.report.vectors.case import GOLDEN, VectorCase
from loihi_mmfree.report.vectors.values import corners, pool, silence

_INPUT = "inputs/in"
_RANDOM_STEPS = 16


class SumVectors:
    """Makes the cases of one synapse that adds up.

    Parameters
    ----------
    node : Synapse
    graph : Graph
    arriving : Interval
        What the proof allows its source.
    sums : Interval
        What the proof finds for its sums.
    """

    def __init__(self, node: Synapse, graph: Graph, arriving: Interval, sums: Interval) -> None:
        (size,) = node.input_sizes
        self.ranges, self.size, self.sums = {_INPUT: arriving}, size, sums
        self.evaluator: Evaluator = node.evaluator(graph.tensors, graph.chip, strict=True)
        self.weights: NDArray[np.int8] = (
            node.weights(graph.tensors)
            if isinstance(node, TernarySynapse)
            else np.ones((node.outputs["out"], size), dtype=np.int8)
        )

    def cases(self, golden: Sequence[Integers], random: np.random.Generator) -> tuple[VectorCase, ...]:
        """Return all cases; parameters as for a group."""
        drawn = pool(random, self.ranges, self.size, _RANDOM_STEPS)
        return (
            self._case(GOLDEN, "the golden tokens", golden[0]),
            self._case("silence", "nothing arrives", silence(self.ranges, self.size)[_INPUT]),
            self._case("ends", "all at the ends of their ranges", corners(self.ranges, self.size)[_INPUT]),
            self._case("largest", "the greatest and the least sum that the proof allows any row", self._largest()),
            self._case("random", "drawn within ranges", drawn[_INPUT]),
        )

    def _case(self, name: str, what: str, steps: Integers) -> VectorCase:
        outputs, _ = self.evaluator.run([steps])
        return VectorCase(name, what, False, {_INPUT: steps, "outputs/out": outputs["out"]})

    def _largest(self) -> Integers:
        """The two inputs that take a row to the ends of its range."""
        low, high = (
            np.broadcast_to(end, self.size) for end in (self.ranges[_INPUT].low, self.ranges[_INPUT].high)
        )
        for_high = self.weights[int(self.sums.high.argmax())]
        for_low = self.weights[int(self.sums.low.argmin())]
        return np.stack([np.where(for_high > 0, high, low), np.where(for_low > 0, low, high)])

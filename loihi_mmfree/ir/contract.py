"""What a node is asked by those who run, prove, place, count and price it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.proof import Violation

Outputs = Mapping[str, Integers]
"""Port -> int64 array [T, n]."""
Bounds = tuple[Mapping[str, Interval], Sequence[Violation]]
"""The range of every port, and every limit that cannot be guaranteed."""


class Evaluator(Protocol):
    """A node at work over NumPy: what it keeps between tokens, and what it has counted."""

    @property
    def variables(self) -> dict[str, Integers]:
        """State variables, int64 [n] by name; what is written there holds from the next token on."""

    @property
    def counters(self) -> Counters:
        """Saturations and overflows since the beginning."""

    def run(self, arguments: Sequence[Integers]) -> tuple[Outputs, Integers | None]:
        """Evaluate T tokens.

        Parameters
        ----------
        arguments : sequence of int64 array [T, n]
            In the order of the node's inputs.

        Returns
        -------
        outputs : mapping port -> int64 array [T, n]
        counted : int64 array [T, 2], optional
            Saturations and overflows of each token; None where nothing is counted.
        """


@dataclass(frozen=True)
class ReceptiveField:
    """The elements of a synapse's source that the neurons behind it read.

    Parameters
    ----------
    first, columns : int
        The elements that every neuron reads; of a one-to-one connection, all of them.
    one_to_one : bool
        Neuron j reads element j alone.
    """

    first: int
    columns: int
    one_to_one: bool = False


@dataclass(frozen=True)
class NeuronMemory:
    """What neurons take up on a core beside their synapses and accumulators.

    Parameters
    ----------
    messages : int
        Messages a neuron can send in a step; each takes a neuron of the chip, which sends one.
    state_bytes : int
        Of one neuron: state variables and constants of its own.
    program_bytes, table_bytes : int
        Once a core; constants that all neurons share count as tables.
    """

    messages: int
    state_bytes: int
    program_bytes: int
    table_bytes: int

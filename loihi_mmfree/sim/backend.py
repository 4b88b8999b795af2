"""What runs a network, whatever it is: the one protocol of engine, Lava, chip, and what comes after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import logits_output, token_input

TakeLogits = Callable[[NDArray[np.int32]], None]
"""Called with the logits [t, V] of some tokens; the array is good until the call returns."""


Self = TypeVar("Self", bound="Closable")


class Closable(Protocol):
    """What holds something until it is closed. A context manager: whatever ends the block closes it."""

    def close(self) -> None:
        """Release everything. Does nothing the second time."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Backend(Closable, Protocol):
    """What runs a network: the engine, Lava's simulation, a core in RTL, or a chip.

    What is to be told of its messages is an `activity.observer.Observer`, given once when it is opened; a backend
    refuses what it cannot observe, by name. Implementations inherit from this class.
    """

    @property
    def logit_scale(self) -> float:
        """Real value of one unit of a logit."""

    @property
    def steps(self) -> int:
        """Time steps so far; the engine, which has none, counts one for a token."""

    @property
    def counters(self) -> Counters:
        """Saturations and overflows so far."""

    @property
    def cycles(self) -> int | None:
        """Clock cycles so far of the hardware that it simulates; None where there is no clock."""
        return None

    def read(self, ids: NDArray[np.int64], take: TakeLogits | None = None) -> NDArray[np.int32]:
        """Read tokens, whose state is kept, and return the logits after the last.

        Memory does not grow with the number of tokens.

        Parameters
        ----------
        ids : int64 array [T]
            At least one id below the vocabulary size.
        take : callable, optional
            Is given the logits after every token, in order and in pieces [t, V]. Without it, those before the
            last need not be computed.

        Returns
        -------
        int32 array [V]
            The caller's own. Times `logit_scale`, the real logits.
        """

    def process(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """Read tokens and return the logits after each of them, int32 [T, V]: all in memory."""
        pieces: list[NDArray[np.int32]] = []
        self.read(ids, lambda piece: pieces.append(piece.copy()))
        return np.concatenate(pieces)

    def reset(self) -> None:
        """Forget the sequence so far."""


class GraphBackend(Backend):
    """A backend on this machine: what runs a lowered graph.

    Parameters
    ----------
    graph : Graph
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._tokens, self._logits = token_input(graph), logits_output(graph)
        self._steps = 0

    @property
    def logit_scale(self) -> float:
        """Real value of one unit of a logit."""
        return self._logits.scale

    @property
    def steps(self) -> int:
        """Time steps so far; engines know none, and count tokens."""
        return self._steps

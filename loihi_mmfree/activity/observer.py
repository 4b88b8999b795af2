"""What can be observed of a run, and how a backend that sees every message tells it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.counts import group_ports
from loihi_mmfree.activity.incidents import NO_ROWS, NODE, TOKEN, rows_of_incidents
from loihi_mmfree.errors import UsageError
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.ir.executor import Tally, Tap, counting_nodes
from loihi_mmfree.ir.graph import Graph, Source

Counts = Callable[[NDArray[np.int32], NDArray[np.int32]], None]
"""Called with the messages that were not zero [t, outputs], in the order of `group_ports`, and with the rows of
`activity.incidents`, tokens numbered from the first of the t."""


@dataclass(frozen=True)
class Observer:
    """Who is to be told what of a run; a backend takes one when it is opened, and does no work for what is None.

    Parameters
    ----------
    values : callable, optional
        Called with a message and its values (Source, int64 array [t, n]): every message, each in the order of
        tokens, but messages in no order.
    incidents : callable, optional
        Likewise with a node and its saturations and overflows (str, int64 array [t, 2]), for every node that
        counts.
    counts : callable, optional
        Called with what some tokens sent and counted; see `Counts`. The cheapest to observe.
    """

    values: Tap | None = None
    incidents: Tally | None = None
    counts: Counts | None = None

    def require(self, able: set[str], where: str, advice: str) -> None:
        """Refuse what cannot be observed.

        Parameters
        ----------
        able : set of str
            Names of what can.
        where, advice : str
            What runs the network, and what to do.

        Raises
        ------
        UsageError
            Something else is asked for.
        """
        wanted = {name for name, callback in vars(self).items() if callback is not None}
        if wanted - able:
            missing = " and ".join(_IN_WORDS[name] for name in sorted(wanted - able))
            raise UsageError(f"{where} does not show {missing}; {advice}")


_IN_WORDS = {
    "values": "the values of messages",
    "incidents": "what every node counts by token",
    "counts": "the messages of every token",
}
NOBODY = Observer()


class Taps:
    """Tells an observer what a tap and a tally see, counts included.

    Parameters
    ----------
    graph : Graph
        Lowered.
    observer : Observer

    Attributes
    ----------
    tap, tally : callable, optional
        To be called with every message and with what every node counted; None where nobody asked.
    """

    def __init__(self, graph: Graph, observer: Observer) -> None:
        self._observer = observer
        self._columns = {source: number for number, source in enumerate(group_ports(graph))}
        self._nodes = {node: number for number, node in enumerate(counting_nodes(graph))}
        self.tap = self._tap if observer.values or observer.counts else None
        self.tally = self._tally if observer.incidents or observer.counts else None
        self._sent = np.zeros((0, len(self._columns)), dtype=np.int32)
        self._filled = [0] * len(self._columns)
        self._tallied = [0] * len(self._nodes)
        self._incidents: list[NDArray[np.int32]] = []

    def begin(self, tokens: int) -> None:
        """Be ready for so many tokens."""
        self._filled, self._tallied = [0] * len(self._columns), [0] * len(self._nodes)
        if self._observer.counts:
            self._sent = np.zeros((tokens, len(self._columns)), dtype=np.int32)
            self._incidents = [NO_ROWS]

    def end(self) -> None:
        """Tell the counts of all of them."""
        if self._observer.counts:
            rows = np.concatenate(self._incidents)
            self._observer.counts(self._sent, rows[np.lexsort((rows[:, NODE], rows[:, TOKEN]))])

    def _tap(self, source: Source, values: Integers) -> None:
        if self._observer.values:
            self._observer.values(source, values)
        column = self._columns.get(source)
        if self._observer.counts and column is not None:
            first = self._filled[column]
            self._filled[column] += len(values)
            self._sent[first : self._filled[column], column] = np.count_nonzero(values, axis=1)

    def _tally(self, node: str, counted: Integers) -> None:
        if self._observer.incidents:
            self._observer.incidents(node, counted)
        number = self._nodes[node]
        if self._observer.counts and counted.any():
            rows = rows_of_incidents(counted[:, np.newaxis])
            rows[:, TOKEN] += self._tallied[number]
            rows[:, NODE] = number
            self._incidents.append(rows)
        self._tallied[number] += len(counted)

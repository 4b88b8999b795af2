"""Collecting what a run sends: 4 bytes an output and token, 16 an incident, and nothing else that grows."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.counts import HISTOGRAM_BINS, Activity, group_ports
from loihi_mmfree.activity.incidents import COLUMNS, TOKEN, Incidents
from loihi_mmfree.activity.observer import Observer
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.ir.executor import counting_nodes
from loihi_mmfree.ir.graph import Graph, Source


class ActivityRecorder:
    """Counts what a backend sends that was opened with its `observer`.

    Parameters
    ----------
    graph : Graph
        Lowered.
    histograms : bool
        Also sort the values of messages by magnitude, which only a backend that shows values can do.

    Attributes
    ----------
    observer : Observer
    """

    def __init__(self, graph: Graph, histograms: bool = False) -> None:
        self._outputs = [str(source) for source in group_ports(graph)]
        self._nodes = counting_nodes(graph)
        self._sent, self._incidents = array("i"), array("i")
        self._tokens = 0
        self._bins = {key: np.zeros(HISTOGRAM_BINS, dtype=np.int64) for key in self._outputs} if histograms else {}
        self.observer = Observer(values=self._sort if histograms else None, counts=self._count)

    def activity(self, origin: str = "", ids: Sequence[int] | NDArray[np.int64] = ()) -> Activity:
        """Return what was counted so far.

        Parameters
        ----------
        origin : str
            What ran, for people.
        ids : sequence of int
            What was read, if it is to be known.
        """
        by_token = _table(self._sent, len(self._outputs))
        totals = by_token.sum(axis=0, dtype=np.int64).tolist()
        read = hashlib.sha256(np.asarray(ids, dtype="<i8").tobytes()).hexdigest() if len(ids) else ""
        return Activity(
            tokens=self._tokens,
            messages=dict(zip(self._outputs, totals, strict=True)),
            origin=origin,
            ids_sha256=read,
            histograms={key: [int(count) for count in values] for key, values in self._bins.items()},
            by_token=by_token,
            incidents=Incidents(self._nodes, _table(self._incidents, len(COLUMNS))),
        )

    def _count(self, sent: NDArray[np.int32], incidents: NDArray[np.int32]) -> None:
        self._sent = _grown(self._sent, sent)
        if len(incidents):
            numbered = incidents.copy()
            numbered[:, TOKEN] += self._tokens
            self._incidents = _grown(self._incidents, numbered)
        self._tokens += len(sent)

    def _sort(self, source: Source, values: Integers) -> None:
        bins = self._bins.get(str(source))
        if bins is not None:
            bins += _by_bits(values)


def _grown(rows: array[int], more: NDArray[np.int32]) -> array[int]:
    """Rows with more of them behind: the same array, or a copy where an Activity shows those that there were."""
    content = np.ascontiguousarray(more, dtype=np.intc).tobytes()
    try:
        rows.frombytes(content)
    except BufferError:
        rows = array("i", rows)
        rows.frombytes(content)
    return rows


def _table(rows: array[int], columns: int) -> NDArray[np.int32]:
    """The rows as a table, without a copy."""
    table: NDArray[np.int32] = np.frombuffer(rows, dtype=np.int32) if rows else np.zeros(0, dtype=np.int32)
    return table.reshape(-1, columns)


def _by_bits(values: Integers) -> NDArray[np.int64]:
    """Count values by the bits they need beside a sign; exact, because they have far less than 53 bits."""
    bits = np.frexp(np.maximum(values, ~values).astype(np.float64))[1]
    return np.bincount(np.minimum(bits, HISTOGRAM_BINS - 1).reshape(-1), minlength=HISTOGRAM_BINS)

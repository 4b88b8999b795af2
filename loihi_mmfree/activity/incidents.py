"""Saturations and overflows by token and node, as rows of a table: there are few of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOKEN, NODE, SATURATIONS, OVERFLOWS = COLUMNS = range(4)
NO_ROWS: NDArray[np.int32] = np.zeros((0, len(COLUMNS)), dtype=np.int32)


@dataclass(frozen=True, eq=False)
class Incidents:
    """Which token saturated and overflowed at which node.

    Parameters
    ----------
    nodes : tuple of str
        All that could: `ir.executor.counting_nodes`.
    rows : int32 array [incidents, 4]
        Token, number of the node, saturations, overflows. In the order of tokens and then of nodes; each counts
        something.
    """

    nodes: tuple[str, ...] = ()
    rows: NDArray[np.int32] = field(default_factory=NO_ROWS.copy, repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Incidents) and self.nodes == other.nodes and np.array_equal(self.rows, other.rows)

    def by_node(self, what: int) -> dict[str, int]:
        """Return the `SATURATIONS` or `OVERFLOWS` of every node that has any."""
        totals = np.bincount(self.rows[:, NODE], self.rows[:, what], minlength=len(self.nodes))
        return {node: int(total) for node, total in zip(self.nodes, totals, strict=True) if total}

    def by_token(self, what: int, tokens: int) -> NDArray[np.int64]:
        """Return the `SATURATIONS` or `OVERFLOWS` [T] of every one of so many tokens."""
        return np.bincount(self.rows[:, TOKEN], self.rows[:, what], minlength=tokens).astype(np.int64)


def rows_of_incidents(counted: NDArray[Any]) -> NDArray[np.int32]:
    """Return the rows of some tokens, numbered from the first of them.

    Parameters
    ----------
    counted : integer array [T, nodes, 2]
        Saturations and overflows.
    """
    tokens, nodes = np.nonzero(counted.any(axis=2))
    return np.column_stack([tokens, nodes, counted[tokens, nodes]]).astype(np.int32)

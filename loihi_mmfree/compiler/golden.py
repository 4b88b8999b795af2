"""The golden messages: what every node sends for the golden input, by the specification."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.ir.executor import Executor
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import token_input


def golden_messages(graph: Graph, ids: NDArray[np.int64]) -> dict[str, NDArray[np.int32]]:
    """Return the ids and every message they cause, by `node:port`, as int32 arrays [T, n]."""
    tokens = token_input(graph)
    messages: dict[str, NDArray[np.int32]] = {}

    def keep(source: Source, value: NDArray[np.int64]) -> None:
        messages[str(source)] = value.astype(np.int32)

    rows = graph.tensors[tokens.table][ids].astype(np.int64)
    inner = tuple(node for node in graph if node is not tokens)
    Executor(graph, inner, strict=True).run({tokens.out(): rows}, tap=keep)
    return {"ids": ids.astype(np.int32), **messages}

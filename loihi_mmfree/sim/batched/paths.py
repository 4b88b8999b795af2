"""The two ways to take a piece through a network: as tensors anywhere, as generated kernels on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from loihi_mmfree.ir.graph import Graph, Node
from loihi_mmfree.ir.nodes import LogitsOut, logits_output, token_input
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.sim.batched.eager import EagerNetwork, States
from loihi_mmfree.sim.batched.pieces import TokenRows
from loihi_mmfree.sim.batched.products import exact_matrix_units
from loihi_mmfree.sim.batched.tensors import DeviceTensors

_ALIGNED = 16
"""Numbers of a state begin at a multiple of so many, as vector loads want it."""

Rows = slice | Tensor
"""Some rows of a piece."""
LogitsOf = Callable[[Rows], Tensor]
"""Returns the logits of some rows of the piece that was read last, int32 [t, V]."""


class Progress:
    """What is carried on from piece to piece, all on one device.

    Parameters
    ----------
    graph : Graph
    sequences : int
        Which are before their first token.
    device : torch.device

    Attributes
    ----------
    states : dict (group, variable) -> int64 tensor [sequences, n]
    counted : int64 tensor [2]
        Saturations and overflows.
    flag : int32 tensor [1]
        Not zero where the kernels found what only the eager path counts.
    """

    def __init__(self, graph: Graph, sequences: int, device: torch.device) -> None:
        sizes = {(node.name, name): size for node in graph for name, size in node.states.items()}
        places = np.cumsum([0, *(-(-sequences * size // _ALIGNED) * _ALIGNED for size in sizes.values())]).tolist()
        # In one piece of memory, so that they are saved by one copy.
        self._all = torch.zeros(places[-1], dtype=torch.int64, device=device)
        self.states: States = {
            key: self._all[place : place + sequences * size].view(sequences, size)
            for (key, size), place in zip(sizes.items(), places[:-1], strict=True)
        }
        self.counted = torch.zeros(2, dtype=torch.int64, device=device)
        self.flag = torch.zeros(1, dtype=torch.int32, device=device)

    def saved(self) -> tuple[Tensor, Tensor]:
        """Return a copy of states and counts."""
        return self._all.clone(), self.counted.clone()

    def restore(self, saved: tuple[Tensor, Tensor]) -> None:
        """Take back states and counts, in place."""
        self._all.copy_(saved[0])
        self.counted.copy_(saved[1])
        self.flag.zero_()


class Path(Protocol):
    """Takes pieces through a network."""

    def read(self, ids: Tensor, piece: TokenRows, progress: Progress) -> LogitsOf:
        """Read the tokens of a piece, int32 [N]."""


def head_of(graph: Graph) -> TernarySynapse | None:
    """Return the product that gives the logits, if nothing else reads it: it can wait until it is asked for."""
    last = graph.by_name[logits_output(graph).inputs[0].node]
    alone = all(isinstance(each, LogitsOut) for each in graph.readers(last))
    return last if isinstance(last, TernarySynapse) and alone else None


class EagerPath(Path):
    """Takes pieces through a network one node at a time."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self._tokens, self._logits = token_input(graph), logits_output(graph)
        self._graph, self._device, self._head = graph, device, head_of(graph)
        inner: tuple[Node, ...] = tuple(node for node in graph if not node.host_end and node is not self._head)
        tensors = DeviceTensors(graph, device)
        self._body = EagerNetwork(graph, inner, tensors)
        self._last = EagerNetwork(graph, () if self._head is None else (self._head,), tensors)

    def read(self, ids: Tensor, piece: TokenRows, progress: Progress) -> LogitsOf:
        """Read the tokens of a piece, int32 [N]."""
        embedded = self._graph.tensors[self._tokens.table][ids.cpu().numpy()].astype(np.int64)
        rows = torch.from_numpy(embedded).to(self._device)
        with exact_matrix_units():
            values = self._body.run({self._tokens.out(): rows}, piece, progress.states, progress.counted)

        def logits_of(rows: Rows) -> Tensor:
            wanted = self._logits.inputs[0]
            if self._head is None:
                return values[wanted][rows].to(torch.int32)
            read = self._head.inputs[0]
            with exact_matrix_units():
                found = self._last.run({read: values[read][rows]}, piece, {}, progress.counted)
            return found[wanted].to(torch.int32)

        return logits_of

"""A network as generated GPU kernels: regions between products, and products in the matrix units."""

from __future__ import annotations

import torch
from torch import Tensor

from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import logits_output
from loihi_mmfree.sim.batched.kernels.launch import ProductLaunch, RegionLaunch
from loihi_mmfree.sim.batched.kernels.storage import Run, Storage, Weights
from loihi_mmfree.sim.batched.paths import LogitsOf, Path, Progress, Rows, head_of
from loihi_mmfree.sim.batched.pieces import TokenRows
from loihi_mmfree.sim.batched.products import exact_matrix_units
from loihi_mmfree.sim.batched.regions import Region, schedule

MOST_REPLAYED = 1024
"""Sequences of which single tokens are recorded: all their logits are held."""


class CompiledNetwork:
    """Runs all nodes of a graph but the product that gives the logits, where nothing else reads it.

    Parameters
    ----------
    graph : Graph
    walks : bool
        Whether a sequence can have more than one token in a piece.
    weights : Weights

    Raises
    ------
    NoKernelError
        Something in it is beyond the kernels.
    """

    def __init__(self, graph: Graph, walks: bool, weights: Weights) -> None:
        planned = schedule(graph, walks)
        storage = Storage(graph, planned, weights)
        first = {nodes[0]: nodes for nodes in storage.products}
        self._steps: list[RegionLaunch | ProductLaunch] = []
        for step in planned.steps:
            if isinstance(step, Region):
                self._steps.append(RegionLaunch(storage, step))
            elif step in first:
                self._steps.append(ProductLaunch(storage, first[step]))
        self._last_reader = {key: number for number, each in enumerate(self._steps) for key in each.reads}
        self._logits = planned.root(logits_output(graph).inputs[0])
        self._head: ProductLaunch | None = None
        if head_of(graph) is not None:
            # Nothing comes after it, since nothing reads it.
            last = self._steps.pop()
            assert isinstance(last, ProductLaunch)
            self._head = last

    def read(self, run: Run) -> LogitsOf:
        """Read the tokens of a piece."""
        with exact_matrix_units():
            self._run(run)

        def logits_of(rows: Rows) -> Tensor:
            if self._head is None:
                return run.values[self._logits, "plain"][rows].to(torch.int32)
            with exact_matrix_units():
                return self._head.sums(run, rows, counts=True)[0].to(torch.int32)

        return logits_of

    def _run(self, run: Run) -> None:
        """Compute; what the head, or whoever wants the logits, reads is left in `run.values`."""
        for number, step in enumerate(self._steps):
            step.run(run)
            for key in step.reads:
                if self._last_reader[key] == number:
                    run.values.pop(key, None)


class CompiledPath(Path):
    """Takes pieces through a network as kernels; single tokens, once they repeat, as one graph of launches.

    Parameters
    ----------
    graph : Graph
    device : torch.device
    otherwise : Path
        Reads the pieces in which something is wider than it may be, which it counts, or says what is wrong.

    Raises
    ------
    NoKernelError
        Something in the network is beyond the kernels.
    """

    def __init__(self, graph: Graph, device: torch.device, otherwise: Path) -> None:
        weights = Weights(graph, device)
        self._device, self._otherwise = device, otherwise
        self._prompts = CompiledNetwork(graph, True, weights)
        self._tokens = CompiledNetwork(graph, False, weights)
        self._replay: Replay | None = None
        self._last: tuple[Progress, int] | None = None

    def read(self, ids: Tensor, piece: TokenRows, progress: Progress) -> LogitsOf:
        """Read the tokens of a piece, int32 [N]."""
        replay = self._replay_of(ids, piece, progress)
        if replay is not None:
            logits_of, before = replay.read(ids), replay.saved
        else:
            before = progress.saved()
            network = self._tokens if _single(piece) else self._prompts
            logits_of = network.read(Run(ids, piece.sequences, piece.starts, progress))
        if not bool(progress.flag):
            return logits_of
        progress.restore(before)
        return self._otherwise.read(ids, piece, progress)

    def _replay_of(self, ids: Tensor, piece: TokenRows, progress: Progress) -> Replay | None:
        """Return what replays such a piece; it is recorded for the second, since the first compiles kernels."""
        kind = (progress, len(ids)) if _single(piece) and len(ids) <= MOST_REPLAYED else None
        again, self._last = kind is not None and self._last == kind, kind
        if not again or self._device.type != "cuda":
            return None
        if self._replay is None or not self._replay.belongs_to(progress, len(ids)):
            self._replay = Replay(self._tokens, Run(ids, piece.sequences, piece.starts, progress))
        return self._replay


def _single(piece: TokenRows) -> bool:
    """Whether every sequence has one token."""
    return all(length == 1 for length in piece.lengths)


class Replay:
    """One token of every sequence, recorded as a graph of launches: nothing is left to do for the processor.

    Attributes
    ----------
    saved : states and counts
        As they were before the last token.
    """

    def __init__(self, network: CompiledNetwork, run: Run) -> None:
        self._run = run
        self._run.ids = run.ids.clone()
        self._graph = torch.cuda.CUDAGraph()
        before = run.progress.saved()
        with torch.cuda.graph(self._graph):
            self.saved = run.progress.saved()
            self._logits = network.read(run)(slice(None))
        run.progress.restore(before)

    def belongs_to(self, progress: Progress, rows: int) -> bool:
        """Whether it carries on these states, for so many sequences."""
        return self._run.progress is progress and self._run.rows == rows

    def read(self, ids: Tensor) -> LogitsOf:
        """Read one token of every sequence."""
        self._run.ids.copy_(ids)
        self._graph.replay()
        return self._logits.__getitem__

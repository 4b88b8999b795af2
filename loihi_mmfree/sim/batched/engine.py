"""The batched engine: a network over many sequences at once, every bit as `engine.specification` gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loihi_mmfree.activity.observer import NOBODY, Observer
from loihi_mmfree.errors import BackendUnavailableError
from loihi_mmfree.fixedpoint.interpreter import OVERFLOWS, SATURATIONS, Counters
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.sim.backend import GraphBackend, TakeLogits
from loihi_mmfree.sim.batched.paths import EagerPath, Path, Progress
from loihi_mmfree.sim.batched.pieces import TokenRows
from loihi_mmfree.sim.batched.products import probe, product_type
from loihi_mmfree.sim.pieces import cut

GPU_ROWS, CPU_ROWS = 1 << 15, 1 << 9
"""Tokens of all sequences that go through the network together."""
LOGIT_ROWS = 1 << 11
"""Tokens whose logits are held at once."""


@dataclass(frozen=True)
class BatchLogits:
    """The logits after some tokens.

    Parameters
    ----------
    values : int32 tensor [t, V]
        On the device; good until the call that gives it returns.
    sequences, positions : int64 array [t]
        Which sequence, and which of the tokens given to the call, counted from 0.
    """

    values: Tensor
    sequences: NDArray[np.int64]
    positions: NDArray[np.int64]


TakeBatch = Callable[[BatchLogits], None]


def open_device(name: str | None = None) -> torch.device:
    """Return a device by name; without one, the GPU if there is one, else the processor.

    Raises
    ------
    BackendUnavailableError
        There is no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BackendUnavailableError(
            f"PyTorch {torch.__version__} has no device {name!r} here ({str(error).splitlines()[0]}); "
            "use `device='cpu'`, or `backend='engine'`, which is the faster one on a processor"
        ) from error
    return device


def _compiled_path(graph: Graph, device: torch.device, otherwise: Path) -> Path:
    try:
        from loihi_mmfree.sim.batched.compiled import CompiledPath
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise BackendUnavailableError(
            "kernels for a GPU are compiled by Triton, which PyTorch for CUDA brings along on Linux; it is not "
            "installed here: pip install triton, or use `backend='engine'`"
        ) from error
    return CompiledPath(graph, device, otherwise)


class BatchedEngine(GraphBackend):
    """Reads many sequences at once, token-exactly, and keeps their recurrent states between calls.

    A GPU runs generated kernels; a processor one tensor operation after the other, where the compiled engine is
    faster. Widths of registers and accumulators are checked and overflows counted, always.

    Parameters
    ----------
    graph : Graph
        Lowered; the codes of ternary synapses packed as `fixedpoint.ternary.pack_ternary` does it.
    device : torch.device
    observer : Observer
        Of which it can tell nothing.
    rows : int, optional
        Most tokens of all sequences that go through the network together; memory grows with it.
    eager : bool, optional
        One tensor operation after the other, which is what kernels are held against; by default where there is no
        GPU.

    Raises
    ------
    UsageError
        The observer asks for something, or no kernels can be made for the graph.
    SimulationError
        The products of this device are not exact.
    """

    def __init__(
        self,
        graph: Graph,
        device: torch.device,
        observer: Observer = NOBODY,
        rows: int | None = None,
        eager: bool | None = None,
    ) -> None:
        observer.require(set(), "the torch backend", "use `backend='engine'`")
        super().__init__(graph)
        self.device = device
        on_gpu = device.type == "cuda"
        for columns in {node.columns for node in graph if isinstance(node, TernarySynapse)}:
            probe(device, product_type(device), columns)
        eager_path = EagerPath(graph, device)
        self._path: Path = eager_path
        if not (not on_gpu if eager is None else eager):
            self._path = _compiled_path(graph, device, eager_path)
        self._rows = rows or (GPU_ROWS if on_gpu else CPU_ROWS)
        self._before, self._progress = Counters(), Progress(graph, 1, device)

    def begin(self, sequences: int) -> None:
        """Be before the first token of so many sequences."""
        self._before = self.counters
        self._progress = Progress(self.graph, sequences, self.device)

    @property
    def counters(self) -> Counters:
        """Saturations and overflows since the engine was made."""
        counted = self._progress.counted.tolist()
        return Counters.total([self._before, Counters(counted[SATURATIONS], counted[OVERFLOWS])])

    def reset(self) -> None:
        """Forget the sequence so far."""
        self.begin(1)

    def read(self, ids: NDArray[np.int64], take: TakeLogits | None = None) -> NDArray[np.int32]:
        """Read tokens of one sequence and return the logits after the last; see `Backend.read`."""

        def give(logits: BatchLogits) -> None:
            if take is not None:
                take(logits.values.cpu().numpy())

        last: NDArray[np.int32] = self.read_batch([ids], give if take is not None else None)[0].cpu().numpy()
        return last

    def read_batch(self, sequences: Sequence[NDArray[np.int64]], take: TakeBatch | None = None) -> Tensor:
        """Read some tokens of every sequence, which may be none, and return the logits after the last of each.

        Parameters
        ----------
        sequences : sequence of int64 array [T]
            As many as `begin` was told. Ids below the vocabulary size.
        take : callable, optional
            Is given the logits after every token; those of a sequence come in order. Without it, those before the
            last are not computed, and the overflows of a head that only they show are not counted.

        Returns
        -------
        int32 tensor [sequences, V]
            On the device. Zeros for a sequence without tokens. Times `logit_scale`, the real logits.

        Raises
        ------
        SimulationError
            A value is outside what the proof of bounds promises. States are undefined until `begin`.
        """
        last = torch.zeros((len(sequences), self._logits.size), dtype=torch.int32, device=self.device)
        # Kernels start on the present device, which need not be that of their tensors.
        with torch.cuda.device_of(last):
            for spans in cut([len(ids) for ids in sequences], self._rows):
                piece = TokenRows(tuple(end - begin for begin, end in spans), self.device)
                ids = np.concatenate([ids[slice(*span)] for ids, span in zip(sequences, spans, strict=True)])
                whole = [end == len(ids) > begin for ids, (begin, end) in zip(sequences, spans, strict=True)]
                self._read_piece(ids, piece, np.array([begin for begin, _ in spans]), np.array(whole), last, take)
                self._steps += piece.rows
        return last

    def _read_piece(
        self,
        ids: NDArray[np.int64],
        piece: TokenRows,
        first: NDArray[np.int64],
        whole: NDArray[np.bool_],
        last: Tensor,
        take: TakeBatch | None,
    ) -> None:
        """Read a piece: `first` is the position of each sequence's first token, `whole` says which end in it."""
        tokens = torch.from_numpy(ids.astype(np.int32)).to(self.device)
        logits_of = self._path.read(tokens, piece, self._progress)
        lengths = np.array(piece.lengths)
        ends = np.cumsum(lengths) - 1
        if take is None:
            if whole.any():
                last[self._rows_of(whole.nonzero()[0])] = logits_of(self._rows_of(ends[whole]))
            return
        sequences = np.repeat(np.arange(len(lengths)), lengths)
        positions = np.arange(piece.rows) - np.repeat(ends + 1 - lengths, lengths) + first[sequences]
        for begin in range(0, piece.rows, LOGIT_ROWS):
            part = slice(begin, min(begin + LOGIT_ROWS, piece.rows))
            logits = logits_of(part)
            here = whole & (part.start <= ends) & (ends < part.stop)
            if here.any():
                last[self._rows_of(here.nonzero()[0])] = logits[self._rows_of(ends[here] - begin)]
            take(BatchLogits(logits, sequences[part], positions[part]))

    def _rows_of(self, numbers: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(numbers).to(self.device)

    def close(self) -> None:
        """Release nothing: the engine holds only memory."""

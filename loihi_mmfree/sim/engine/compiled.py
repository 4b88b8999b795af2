"""The integer engine on compiled kernels: every bit as `specification` gives it over NumPy, many times faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.observer import NOBODY, Observer
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.part import Part
from loihi_mmfree.memory import release_code_of
from loihi_mmfree.sim.backend import GraphBackend, TakeLogits
from loihi_mmfree.sim.engine.core import FastCore
from loihi_mmfree.sim.engine.team import ProgramLibrary, Team, available_threads
from loihi_mmfree.sim.pieces import cut

TakeBatch = Callable[[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]], None]
"""Called with logits [t, V] of many sequences; see `FastEngine.read_batch`."""
PROMPT_TOKENS = 64
"""Most tokens that go through the network together; memory grows with it, speed hardly does any more."""
FEWEST_TOGETHER = 8
"""Below this, tokens are faster one by one: the weights are read again, but nothing is padded."""


def pieces(tokens: int) -> Iterator[int]:
    """Yield how many of some tokens go through a network together, one piece after the other."""
    while tokens:
        count = min(tokens, PROMPT_TOKENS) if tokens >= FEWEST_TOGETHER else 1
        yield count
        tokens -= count


class FastEngine(GraphBackend):
    """Runs a network token-exactly with compiled kernels and keeps its recurrent state between calls.

    The weights stay packed, wherever they lie; buffers are made once and do not grow with the tokens read.

    Parameters
    ----------
    graph : Graph
        Lowered; the codes of ternary synapses packed as `fixedpoint.ternary.pack_ternary` does it.
    strict : bool
        Check every register and accumulator against its declared width and count overflows.
    threads : int, optional
        Default: as many as there are processors for this process, or one while that is faster.
    observer : Observer
        Of which it can tell `counts`. Where `read` is not asked for the logits of every token, the overflows of a
        head of which only the last is computed are not counted.

    Raises
    ------
    UsageError
        The observer asks for more.
    NotPlannedError
        The graph holds something that the kernels do not know.
    """

    def __init__(
        self, graph: Graph, strict: bool = False, threads: int | None = None, observer: Observer = NOBODY
    ) -> None:
        observer.require({"counts"}, "the compiled engine", "use the engine with NumPy kernels")
        super().__init__(graph)
        self._counts = observer.counts
        self._team = Team(threads or available_threads())
        part = Part.between_the_hosts_ends(graph)
        measured, record = threads is None, observer.counts is not None
        self._core = FastCore(part, PROMPT_TOKENS, strict, self._team, ProgramLibrary(), measured, record)
        release_code_of("libllvmlite")
        self._room = np.empty((0, self._logits.size), dtype=np.int32)

    @property
    def counters(self) -> Counters:
        """Saturations and overflows since the engine was made."""
        return self._core.counters

    def state(self, node: str, sequence: int = 0) -> dict[str, Integers]:
        """Return the state variables of a neuron group, int64 [n] by name."""
        return self._core.states_of(sequence).get(node, {})

    def reset(self) -> None:
        """Forget the sequence so far, or all of them."""
        self._core.reset()

    def begin(self, sequences: int) -> None:
        """Be before the first token of so many sequences."""
        self._core.begin(sequences)

    def read(self, ids: NDArray[np.int64], take: TakeLogits | None = None) -> NDArray[np.int32]:
        """Read tokens and return the logits after the last; see `Backend.read`.

        Raises
        ------
        SimulationError
            A value is outside what the proof of bounds promises. States are undefined until `reset`.
        """
        table, done = self.graph.tensors[self._tokens.table], 0
        for count in pieces(len(ids)):
            rows = table[ids[done : done + count]]
            logits = self._rows_of_logits(1 if take is None else count)
            self._core.run({self._tokens.out(): rows}, {self._logits.inputs[0]: logits}, last_only=take is None)
            if self._counts is not None:
                self._counts(self._core.count_messages(count), self._core.count_incidents(count))
            self._steps += count
            done += count
            if take is not None:
                take(logits)
        return logits[-1].copy()

    def read_batch(
        self, sequences: Sequence[NDArray[np.int64]], take: TakeBatch | None = None
    ) -> NDArray[np.int32]:
        """Read some tokens of every sequence, which may be none, and return the logits after the last of each.

        Tokens of different sequences go through the network together: the weights are read once for all of them.

        Parameters
        ----------
        sequences : sequence of int64 array [T]
            As many as `begin` was told. Ids below the vocabulary size.
        take : callable, optional
            Called with logits [t, V], good until the call returns, the sequences they belong to [t], and the
            positions in these [t] of the tokens that were read last; those of a sequence come in order.

        Returns
        -------
        int32 array [sequences, V]
            Zeros for a sequence without tokens. Times `logit_scale`, the real logits.

        Raises
        ------
        SimulationError
            A value is outside what the proof of bounds promises. States are undefined until `begin`.
        """
        table = self.graph.tensors[self._tokens.table]
        last = np.zeros((len(sequences), self._logits.size), dtype=np.int32)
        lengths = np.array([len(ids) for ids in sequences])
        for spans in cut(lengths.tolist(), PROMPT_TOKENS):
            numbers = np.repeat(np.arange(len(spans)), [end - begin for begin, end in spans])
            positions = np.concatenate([np.arange(*span) for span in spans])
            ids = np.concatenate([ids[slice(*span)] for ids, span in zip(sequences, spans, strict=True)])
            done = 0
            for count in pieces(len(ids)):
                part = slice(done, done + count)
                logits = self._rows_of_logits(count)
                inputs, results = {self._tokens.out(): table[ids[part]]}, {self._logits.inputs[0]: logits}
                self._core.run(inputs, results, sequences=numbers[part])
                if self._counts is not None:
                    self._counts(self._core.count_messages(count), self._core.count_incidents(count))
                ends = positions[part] + 1 == lengths[numbers[part]]
                last[numbers[part][ends]] = logits[ends]
                if take is not None:
                    take(logits, numbers[part], positions[part])
                done += count
            self._steps += len(ids)
        return last

    def _rows_of_logits(self, rows: int) -> NDArray[np.int32]:
        """Room for the logits of so many tokens, the same every time."""
        if len(self._room) < rows:
            self._room = np.empty((rows, self._logits.size), dtype=np.int32)
        return self._room[:rows]

    def close(self) -> None:
        """End the threads."""
        self._team.close()

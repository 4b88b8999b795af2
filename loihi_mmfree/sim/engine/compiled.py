"""The integer engine on compiled kernels: every bit as `specification` gives it over NumPy, many times faster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.counts import ActivityRecorder
from loihi_mmfree.activity.incidents import NO_ROWS, TOKEN, Incidents
from loihi_mmfree.errors import UsageError
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.ir.executor import Executor, Tally, Tap
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import logits_output, token_input
from loihi_mmfree.ir.part import Part
from loihi_mmfree.sim.engine.core import FastCore
from loihi_mmfree.sim.engine.team import ProgramLibrary, Team, available_threads

PROMPT_TOKENS = 64
"""Most tokens that go through the network together; memory grows with it, speed hardly does any more."""
FEWEST_TOGETHER = 8
"""Below this, tokens are faster one by one: the weights are read again, but nothing is padded."""


class FastEngine:
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
    record : bool
        Count by token: see `messages` and `incidents`.

    Raises
    ------
    NotPlannedError
        The graph holds something that the kernels do not know.
    """

    def __init__(
        self, graph: Graph, strict: bool = False, threads: int | None = None, record: bool = False
    ) -> None:
        self.graph, self._strict, self._record = graph, strict, record
        self._tokens, self._logits = token_input(graph), logits_output(graph)
        self._team = Team(threads or available_threads())
        part = Part.between_the_hosts_ends(graph)
        self._core = FastCore(part, PROMPT_TOKENS, strict, self._team, ProgramLibrary(), threads is None, record)
        self._tapped_counters = Counters()
        # Of every call: messages [T, outputs], and rows of incidents with tokens numbered from its first.
        self._recorded: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
        self._tokens_read = 0

    @property
    def logit_scale(self) -> float:
        """Real value of one unit of a logit."""
        return self._logits.scale

    @property
    def steps(self) -> int:
        """Tokens read since the engine was made: it knows no time steps."""
        return self._tokens_read

    @property
    def counters(self) -> Counters:
        """Saturations and overflows since the engine was made."""
        return Counters.total([self._core.counters, self._tapped_counters])

    @property
    def messages(self) -> NDArray[np.int32]:
        """Elements that were not zero of every token read since the engine was made: int32 [T, outputs].

        A column for every output of every neuron group, in the order of the graph.

        Raises
        ------
        UsageError
            The engine was made without `record`.
        """
        self._require_record()
        none = np.zeros((0, len(self._core.plan.messages)), dtype=np.int32)
        return np.concatenate([none, *(messages for messages, _ in self._recorded)])

    @property
    def incidents(self) -> Incidents:
        """Saturations and overflows of every token read since the engine was made.

        Raises
        ------
        UsageError
            The engine was made without `record`.
        """
        self._require_record()
        rows, first = [NO_ROWS], 0
        for messages, incidents in self._recorded:
            if len(incidents):
                rows.append(incidents.copy())
                rows[-1][:, TOKEN] += first
            first += len(messages)
        return Incidents(self._core.plan.counting, np.concatenate(rows))

    def state(self, node: str) -> dict[str, Integers]:
        """Return the state variables of a neuron group, int64 [n] by name."""
        return self._core.states.get(node, {})

    def reset(self) -> None:
        """Forget the sequence so far."""
        self._core.reset()

    def process(
        self,
        ids: NDArray[np.int64],
        tap: Tap | None = None,
        tally: Tally | None = None,
        last_only: bool = False,
    ) -> NDArray[np.int32]:
        """Read tokens and return the logits after each of them.

        Parameters
        ----------
        ids : int64 array [T]
            At least one id below the vocabulary size.
        tap : callable, optional
            Called with (Source, int64 array [T, n]) for every message; the NumPy path computes them.
        tally : callable, optional
            Likewise, with (node, int64 array [T, 2]) for every node that counts: saturations and overflows.
        last_only : bool
            Return the logits after the last token only, and compute no others.

        Returns
        -------
        int32 array [T, V], or [1, V] with `last_only`
            Times `logit_scale`, the real logits.

        Raises
        ------
        SimulationError
            A value is outside what the proof of bounds promises. States are undefined until `reset`.
        """
        if tap or tally:
            logits = self._process_tapped(ids, tap, tally)
            return logits[-1:] if last_only else logits
        return self.process_rows(self.graph.tensors[self._tokens.table][ids], last_only)

    def process_rows(self, rows: np.ndarray, last_only: bool = False) -> NDArray[np.int32]:
        """Do what `process` does, from the rows of the embedding table [T, H] instead of ids."""
        logits = np.empty((1 if last_only else len(rows), self._logits.size), dtype=np.int32)
        done = 0
        while done < len(rows):
            left = len(rows) - done
            count = min(left, PROMPT_TOKENS) if left >= FEWEST_TOGETHER else 1
            target = logits if last_only else logits[done : done + count]
            self._core.run(
                {self._tokens.out(): rows[done : done + count]}, {self._logits.inputs[0]: target}, last_only
            )
            if self._record:
                self._recorded.append((self._core.count_messages(count), self._core.count_incidents(count)))
            self._tokens_read += count
            done += count
        return logits

    def close(self) -> None:
        """End the threads."""
        self._team.close()

    def _process_tapped(self, ids: NDArray[np.int64], tap: Tap | None, tally: Tally | None) -> NDArray[np.int32]:
        """Run the NumPy path from the states as they are."""
        inner = tuple(node for node in self.graph if node is not self._tokens)
        executor = Executor(self.graph, inner, self._strict)
        for node, states in self._core.states.items():
            executor.evaluators[node].variables.update({name: values.copy() for name, values in states.items()})
        rows = self.graph.tensors[self._tokens.table][ids].astype(np.int64)
        wanted = self._logits.inputs[0]
        recorder = ActivityRecorder(self.graph)

        def counting_tap(source: Source, values: Integers) -> None:
            recorder(source, values)
            if tap:
                tap(source, values)

        def counting_tally(node: str, counts: Integers) -> None:
            recorder.tally(node, counts)
            if tally:
                tally(node, counts)

        values = executor.run({self._tokens.out(): rows}, [wanted], counting_tap, counting_tally)
        for node, states in self._core.states.items():
            for name, state in states.items():
                state[:] = executor.evaluators[node].variables[name]
        self._tapped_counters.add(executor.counters)
        if self._record:
            self._recorded.append((recorder.by_token, recorder.incidents.rows))
        self._tokens_read += len(rows)
        return values[wanted].astype(np.int32)

    def _require_record(self) -> None:
        if not self._record:
            raise UsageError("this engine does not count by token: use FastEngine(..., record=True)")

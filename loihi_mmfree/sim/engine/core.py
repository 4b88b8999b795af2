"""Runs a part of a network with the compiled kernels: its plan, its buffers and its state."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.incidents import NO_ROWS, rows_of_incidents
from loihi_mmfree.errors import SimulationError
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.ir.graph import Source
from loihi_mmfree.ir.part import Part
from loihi_mmfree.sim.engine.kernels.conventions import (
    ACTIVATION_FAULT,
    COUNTERS,
    LINKS,
    MESSAGE_FAULT,
    SCRATCH,
    SHIFT_FAULT,
    TABLE_FAULT,
    looks_up_sums,
)
from loihi_mmfree.sim.engine.kernels.runtime.job import Buffer, Setting, empty_job, set_buffer
from loihi_mmfree.sim.engine.plan import make_plan
from loihi_mmfree.sim.engine.team import Pace, ProgramLibrary, Team

_FAULTS = {
    TABLE_FAULT: "a table was read outside its entries",
    SHIFT_FAULT: "a shift distance was not in 0..63",
    MESSAGE_FAULT: "a message did not fit 32 bits",
    ACTIVATION_FAULT: "an activation did not fit its declared width",
}
_TOKENS, _LAST_ONLY = int(Setting.TOKENS), int(Setting.LAST_ONLY)
LINE = 16
"""int32 values in a cache line: where vectors begin."""


class FastCore:
    """Runs a part of a network token-exactly and keeps its recurrent state between calls.

    The weights stay packed, wherever they lie; buffers are made once and do not grow with the tokens read.

    Parameters
    ----------
    part : Part
    tokens : int
        Most tokens in a call.
    strict : bool
        Check every register and accumulator against its declared width and count overflows.
    team : Team
    library : ProgramLibrary
    measured : bool
        Whether one thread may do without the team while that is faster.
    record : bool
        Count by token, for `count_messages` and `count_incidents`.

    Attributes
    ----------
    plan : Plan
    states : mapping node -> mapping name -> int64 array [n]
        The recurrent state itself: what is written there holds from the next token on.

    Raises
    ------
    NotPlannedError
        The part holds something that the kernels do not know.
    """

    def __init__(
        self,
        part: Part,
        tokens: int,
        strict: bool,
        team: Team,
        library: ProgramLibrary,
        measured: bool = True,
        record: bool = False,
    ) -> None:
        self._part = part
        sums = tokens > 1 and _sums_are_faster()
        self.plan = plan = make_plan(part, tokens, team.size, strict, record, sums)
        self._team, self._library = team, library
        self._pace = Pace({team.size, 1}) if measured and plan.weights and team.size > 1 else None
        # Without weights a token has too little to do for more than one.
        self._members = team.size if plan.weights or not measured else 1
        functions = library.addresses([structure for _, structure in plan.structures])
        plan.steps[[step for step, _ in plan.structures], 2] = functions
        self._values = np.zeros(plan.values, dtype=np.int32)
        self._states = np.zeros((1, plan.state_size), dtype=np.int64)
        self._sequences = np.zeros(tokens, dtype=np.int64)
        self._counts = np.zeros((team.size, COUNTERS), dtype=np.int64)
        self._tokens_read, self._record, self._counters_before = 0, record, Counters()
        self._messages = np.zeros((team.size, tokens, len(plan.messages)), dtype=np.int32)
        self._incidents = np.zeros((team.size, tokens * record, len(plan.counting), 2), dtype=np.int32)
        self._buffers: dict[Buffer, np.ndarray] = {
            Buffer.PLAN: plan.steps,
            Buffer.CODE: plan.code,
            Buffer.LINKS: plan.links,
            Buffer.VALUES: self._values,
            Buffer.PLANES: np.zeros(plan.planes, dtype=np.int8),
            Buffer.MATRICES: _aligned_zeros(plan.matrices),
            Buffer.CONSTANTS: plan.constants,
            Buffer.STATES: self._states,
            Buffer.TABLES: plan.table_memory,
            Buffer.MEMORY: np.zeros((team.size, 8 + LINKS), dtype=np.int64),
            Buffer.TILES: _aligned_zeros(team.size * (-(-plan.tile // LINE) * LINE + LINE)),
            Buffer.SCRATCH: _aligned_zeros(team.size * SCRATCH),
            Buffer.COUNTERS: self._counts,
            Buffer.MESSAGES: self._messages,
            Buffer.INCIDENTS: self._incidents,
            Buffer.SEQUENCES: self._sequences,
        }
        self._job = empty_job()
        for which, array in self._buffers.items():
            set_buffer(self._job, which, array)
        self._job[Setting.STRICT] = strict
        self._job[Setting.ACCUMULATOR_BITS] = part.graph.chip.accumulator_bits.value
        self._job[Setting.THREADS] = team.size
        self._job[Setting.NODES] = len(plan.counting)
        self._job_address: int = self._job.ctypes.data
        # Single numbers are written and read faster this way than in arrays.
        self._settings, self._faults = self._job.data, self._counts[:, 2].data
        self.states = self.states_of(0)

    def states_of(self, sequence: int) -> dict[str, dict[str, Integers]]:
        """Return the recurrent state of one of the sequences, as `states`."""
        found: dict[str, dict[str, Integers]] = {}
        for (node, name), (begin, size) in self.plan.state_places.items():
            found.setdefault(node, {})[name] = self._states[sequence, begin : begin + size]
        return found

    def begin(self, sequences: int) -> None:
        """Be before the first token of so many sequences, each with its own state; `states` is the first one's."""
        if len(self._states) == sequences:
            self.reset()
            return
        self._states = self._buffers[Buffer.STATES] = np.zeros((sequences, self.plan.state_size), dtype=np.int64)
        set_buffer(self._job, Buffer.STATES, self._states)
        self._sequences[:] = 0
        self.states = self.states_of(0)

    @property
    def counters(self) -> Counters:
        """Saturations and overflows so far."""
        saturations, overflows = (self._tokens_read * each for each in self._fixed_counts)
        for clamped, wide in self._counts[:, :2].tolist():
            saturations += clamped
            overflows += wide
        return Counters(saturations, overflows)

    @cached_property
    def _fixed_counts(self) -> tuple[int, int]:
        saturations, overflows = self.plan.fixed_counts.sum(axis=0).tolist()
        return saturations, overflows

    def count_messages(self, tokens: int) -> NDArray[np.int32]:
        """Return how many elements of each message of the last call, of `tokens`, were not zero.

        Returns
        -------
        int32 array [tokens, messages]
            In the order of `plan.messages`.
        """
        taken: NDArray[np.int32] = self._messages[:, :tokens].sum(axis=0, dtype=np.int32)
        return taken

    def count_incidents(self, tokens: int) -> NDArray[np.int32]:
        """Return the saturations and overflows of the last call, of `tokens`, as rows of `activity.incidents`.

        Tokens are numbered from the first of the call, nodes as in `plan.counting`.
        """
        if self.counters == self._counters_before:
            return NO_ROWS
        return rows_of_incidents(self._incidents[:, :tokens].sum(axis=0, dtype=np.int32) + self.plan.fixed_counts)

    def reset(self) -> None:
        """Forget the sequence so far."""
        self._states[:] = 0

    def run(
        self,
        inputs: Mapping[Source, np.ndarray],
        results: Mapping[Source, np.ndarray],
        last_only: bool = False,
        sequences: NDArray[np.int64] | None = None,
    ) -> None:
        """Run tokens through the nodes.

        Parameters
        ----------
        inputs : mapping Source -> integer array [T, n]
        results : mapping Source -> int32 array [T, n], or [1, n] with `last_only`
            Filled; contiguous.
        last_only : bool
            Return what belongs to the last token only, and compute no other logits.
        sequences : int64 array [T], optional
            Of which sequence each token is, those of one in order; by default all are of the first.

        Raises
        ------
        SimulationError
            A value is outside what the proof of bounds promises. States are undefined until `reset`.
        """
        plan = self.plan
        tokens = len(next(iter(inputs.values())))
        self._sequences[:tokens] = 0 if sequences is None else sequences * plan.state_size
        for source, (place, width) in plan.inputs.items():
            self._values[place : place + tokens * width] = inputs[source].reshape(-1)
        if plan.direct is not None:
            logits = results[plan.direct]
            if last_only and not plan.last_alone:
                logits = np.empty((tokens, logits.shape[1]), dtype=np.int32)
            set_buffer(self._job, Buffer.LOGITS, logits)
        self._run_job(tokens, last_only)
        if plan.direct is not None and logits is not results[plan.direct]:
            results[plan.direct][:] = logits[-1:]
        for source, (place, width) in plan.results.items():
            values = self._values[place : place + tokens * width].reshape(tokens, width)
            results[source][:] = values[-1:] if last_only else values

    def step(self, messages: Sequence[np.ndarray]) -> list[NDArray[np.int32]]:
        """Run one token through the nodes, with next to nothing around it.

        Parameters
        ----------
        messages : sequence of integer array [n]
            In the order of the part's inputs.

        Returns
        -------
        list of int32 array [n]
            In the order of the part's results; overwritten by the next token.
        """
        inputs, results, logits = self._row
        for place, message in zip(inputs, messages, strict=True):
            place[:] = message
        if logits.size:
            set_buffer(self._job, Buffer.LOGITS, logits)
        self._run_job(1, last_only=False)
        return results

    @cached_property
    def _row(self) -> tuple[list[NDArray[np.int32]], list[NDArray[np.int32]], NDArray[np.int32]]:
        """Where a single token's inputs go, its results lie, and its logits."""
        plan, part = self.plan, self._part
        logits = np.zeros(part.size_of(plan.direct) if plan.direct else 0, dtype=np.int32)
        inputs = [self._values[place : place + width] for place, width in plan.inputs.values()]
        places = {each: self._values[place : place + width] for each, (place, width) in plan.results.items()}
        results = [
            logits if each == plan.direct else np.broadcast_to(places[each], part.size_of(each))
            for each in part.results
        ]
        return inputs, results, logits

    def _run_job(self, tokens: int, last_only: bool) -> None:
        self._settings[_TOKENS], self._settings[_LAST_ONLY] = tokens, last_only
        if self._record:
            # Now, and not when they are read: a call may have been interrupted before that.
            self._messages[:, :tokens], self._incidents[:, :tokens] = 0, 0
            self._counters_before = self.counters
        self._tokens_read += tokens
        if tokens > 1:
            # A prompt has work enough between two barriers for the whole team, busy machine or not.
            self._team.run(self._job_address, self._team.size)
        elif self._pace is None:
            self._team.run(self._job_address, self._members)
        else:
            members, begin = self._pace.choose(), time.perf_counter()
            self._team.run(self._job_address, members)
            self._pace.record(members, time.perf_counter() - begin)
        for fault in self._faults:
            if fault:
                self._raise_fault()

    def _raise_fault(self) -> None:
        faulty = self._counts[:, 2].nonzero()[0]
        fault, step = self._counts[faulty[0], 2:4].tolist()
        self._counts[:, 2:] = 0
        what = ", ".join(text for bit, text in _FAULTS.items() if fault & bit)
        raise SimulationError(
            f"{self.plan.names[step]}: {what}, which the proof of bounds excludes; "
            "the network was not made by this compiler, or damaged: compile again"
        )


def _sums_are_faster() -> bool:
    from loihi_mmfree.sim.engine.kernels.runtime.objects import processor

    return looks_up_sums(*processor())


def _aligned_zeros(size: int) -> NDArray[np.int32]:
    """Return zeros that begin with a cache line."""
    room = np.zeros(size + LINE, dtype=np.int32)
    begin = -room.ctypes.data % (4 * LINE) // 4
    return room[begin : begin + size]

"""The integer engine on compiled kernels: every bit as `sim.engine` gives it over NumPy, many times faster."""

from __future__ import annotations

import ctypes
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.compiler.executor import Executor, Tap
from loihi_mmfree.compiler.graph import Graph
from loihi_mmfree.compiler.nodes import LogitsOut, TokenIn
from loihi_mmfree.errors import SimulationError
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.fixedpoint.kernels.layout import (
    ACTIVATION_FAULT,
    LINKS,
    MESSAGE_FAULT,
    SCRATCH,
    SHIFT_FAULT,
    TABLE_FAULT,
    TILE_ROWS,
)
from loihi_mmfree.loihi2.hardware import LOIHI2
from loihi_mmfree.sim.fast_plan import make_plan

if TYPE_CHECKING:
    from loihi_mmfree.fixedpoint.kernels.codegen import CompiledPrograms

PROMPT_TOKENS = 128
"""Most tokens that go through the network together; memory grows with it, speed hardly does any more."""
PROBE_EVERY = 25
"""One call in so many tries the other number of threads."""
FEWEST_TOGETHER = 8
"""Below this, tokens are faster one by one: the weights are read again, but nothing is padded."""

_FAULTS = {
    TABLE_FAULT: "a table was read outside its entries",
    SHIFT_FAULT: "a shift distance was not in 0..63",
    MESSAGE_FAULT: "a message did not fit 32 bits",
    ACTIVATION_FAULT: "an activation did not fit its declared width",
}


def available_threads() -> int:
    """Return how many processors this process may use, at most what numba is told (NUMBA_NUM_THREADS)."""
    from numba import config

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, int(config.NUMBA_NUM_THREADS)))


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

    Raises
    ------
    NotPlannedError
        The graph holds something that the kernels do not know.
    """

    def __init__(self, graph: Graph, strict: bool = False, threads: int | None = None) -> None:
        self.graph, self._strict = graph, strict
        self._tokens = next(node for node in graph if isinstance(node, TokenIn))
        self._logits = next(node for node in graph if isinstance(node, LogitsOut))
        self._team = _Team(threads or available_threads())
        self._plan = make_plan(graph, PROMPT_TOKENS, self._team.size, strict)
        plan, members = self._plan, self._team.size
        self._programs = self._compile()
        self._values = np.zeros(plan.values, dtype=np.int32)
        self._planes = np.zeros(plan.planes, dtype=np.int8)
        self._matrices = np.zeros(plan.matrices, dtype=np.int32)
        self._states = np.zeros(plan.state_size, dtype=np.int64)
        self._memory = np.zeros((members, 8 + LINKS), dtype=np.int64)
        self._tiles = np.zeros((members, TILE_ROWS * plan.tile), dtype=np.int32)
        self._scratch = np.zeros((members, SCRATCH), dtype=np.int32)
        self._counts = np.zeros((members, 8), dtype=np.int64)
        self._arrivals = np.zeros(1, dtype=np.int64)
        choices = {members} if threads else {members, 1}
        self._pace = _Pace(choices)
        self._counters = Counters()
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
        saturations, overflows = self._counts[:, :2].sum(axis=0).tolist()
        return Counters(self._counters.saturations + saturations, self._counters.overflows + overflows)

    def state(self, node: str) -> dict[str, Integers]:
        """Return the state variables of a neuron group, int64 [n] by name."""
        places = self._plan.state_places
        return {
            name: self._states[begin : begin + size] for (of, name), (begin, size) in places.items() if of == node
        }

    def reset(self) -> None:
        """Forget the sequence so far."""
        self._states[:] = 0

    def process(
        self, ids: NDArray[np.int64], tap: Tap | None = None, last_only: bool = False
    ) -> NDArray[np.int32]:
        """Read tokens and return the logits after each of them.

        Parameters
        ----------
        ids : int64 array [T]
            At least one id below the vocabulary size.
        tap : callable, optional
            Called with (Source, int64 array [T, n]) for every message; the NumPy path computes them.
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
        if tap is not None:
            logits = self._process_tapped(ids, tap)
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
            self._run(rows[done : done + count], target, last_only)
            done += count
        self._counters.saturations += self._plan.saturations
        self._counters.overflows += self._plan.overflows
        return logits

    def close(self) -> None:
        """End the threads."""
        self._team.close()

    def _compile(self) -> CompiledPrograms:
        """Compile the programs and enter their functions into the plan."""
        from loihi_mmfree.fixedpoint.kernels.codegen import CompiledPrograms

        programs = CompiledPrograms([structure for _, structure in self._plan.structures])
        for step, structure in self._plan.structures:
            self._plan.steps[step, 2] = programs.addresses[structure]
        return programs

    def _run(self, rows: np.ndarray, logits: NDArray[np.int32], last_only: bool) -> None:
        from loihi_mmfree.fixedpoint.kernels.network import run_network

        plan, place = self._plan, self._plan.token_place
        self._team.wait()
        self._values[place : place + rows.size] = rows.reshape(-1)
        self._arrivals[0] = 0
        buffers = (
            len(rows), last_only, plan.steps, plan.code, plan.links, self._values, logits.reshape(-1),
            self._planes, self._matrices, plan.constants, self._states, plan.table_memory,
            self._memory, self._tiles, self._scratch, self._counts, self._strict, LOIHI2.accumulator_bits.value,
            self._arrivals.ctypes.data, self._team.yield_address,
        )  # fmt: skip
        if len(rows) > 1:
            # A prompt has work enough between two barriers for the whole team, busy machine or not.
            self._team.run(run_network, self._team.size, buffers)
        else:
            members, begin = self._pace.choose(), time.perf_counter()
            self._team.run(run_network, members, buffers)
            self._pace.record(members, time.perf_counter() - begin)
        self._tokens_read += len(rows)
        self._raise_fault()

    def _raise_fault(self) -> None:
        faulty = self._counts[:, 2].nonzero()[0]
        if faulty.size:
            fault, step = self._counts[faulty[0], 2:4].tolist()
            self._counts[:, 2:] = 0
            what = ", ".join(text for bit, text in _FAULTS.items() if fault & bit)
            raise SimulationError(
                f"{self._plan.names[step]}: {what}, which the proof of bounds excludes; "
                "the network was not made by this compiler, or damaged: compile again"
            )

    def _process_tapped(self, ids: NDArray[np.int64], tap: Tap) -> NDArray[np.int32]:
        """Run the NumPy path from the states as they are."""
        inner = tuple(node for node in self.graph if not isinstance(node, TokenIn))
        executor = Executor(self.graph, inner, self._strict)
        for (node, name), (begin, size) in self._plan.state_places.items():
            executor.groups[node].variables[name] = self._states[begin : begin + size].copy()
        rows = self.graph.tensors[self._tokens.table][ids].astype(np.int64)
        wanted = self._logits.inputs[0]
        values = executor.run({self._tokens.out(): rows}, [wanted], tap)
        for (node, name), (begin, size) in self._plan.state_places.items():
            self._states[begin : begin + size] = executor.groups[node].variables[name]
        self._counters.saturations += executor.counters.saturations
        self._counters.overflows += executor.counters.overflows
        self._tokens_read += len(rows)
        return values[wanted].astype(np.int32)


class _Team:
    """Threads that run one compiled function together.

    With more than one, all of it happens in other threads than the caller's: a keyboard interrupt may end the
    caller's waiting, but never leaves one thread waiting for another that was not started.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.yield_address = _yield_address()
        self._leader = ThreadPoolExecutor(1, "engine") if size > 1 else None
        self._others = ThreadPoolExecutor(size - 1, "engine") if size > 1 else None
        self._running: Future[None] | None = None

    def run(self, function: Any, members: int, arguments: tuple[Any, ...]) -> None:
        """Call function(member, members, *arguments) for some members of the team, and wait for all."""
        if self._leader is None:
            function(0, 1, *arguments)
            return
        self._running = self._leader.submit(self._lead, function, members, arguments)
        self.wait()

    def wait(self) -> None:
        """Wait for what an interrupted call has left running."""
        if self._running is not None:
            self._running.result()
            self._running = None

    def _lead(self, function: Any, members: int, arguments: tuple[Any, ...]) -> None:
        assert self._others is not None
        others = [self._others.submit(function, member, members, *arguments) for member in range(1, members)]
        function(0, members, *arguments)
        for each in others:
            each.result()

    def close(self) -> None:
        """End the threads."""
        for pool in (self._leader, self._others):
            if pool is not None:
                pool.shutdown()


class _Pace:
    """Decides whether the whole team works or one member alone.

    On a machine that is busy with other things, threads wait for one another longer than they save. Which is
    faster is measured on the work itself; the integers are the same.
    """

    def __init__(self, choices: set[int]) -> None:
        self._seconds = dict.fromkeys(sorted(choices, reverse=True), 0.0)
        self._calls = 0
        self._warm: set[int] = set()

    def choose(self) -> int:
        """Return how many members shall work."""
        self._calls += 1
        ranked = sorted(self._seconds, key=self._seconds.__getitem__)
        return ranked[0] if self._calls % PROBE_EVERY else ranked[-1]

    def record(self, members: int, seconds: float) -> None:
        """Note what a token took; the first of each choice still warms up caches and does not count."""
        if members not in self._warm:
            self._warm.add(members)
            return
        before = self._seconds[members]
        self._seconds[members] = seconds if before == 0.0 else 0.7 * before + 0.3 * seconds


def _yield_address() -> int:
    """Return the address of the system's function that gives the processor to another thread, or 0."""
    try:
        library = ctypes.CDLL(None) if os.name == "posix" else ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
        function = library.sched_yield if os.name == "posix" else library.SwitchToThread
    except (OSError, AttributeError, TypeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0

"""Threads that work through one plan together, and the machine code they share."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.errors import UsageError
from loihi_mmfree.sim.engine.kernels.conventions import CLOSING, STATES
from loihi_mmfree.sim.engine.kernels.programs.structure import Structure

if TYPE_CHECKING:
    from loihi_mmfree.sim.engine.kernels.runtime.native import CompiledPrograms

PROBE_EVERY = 100
"""Two calls in so many try the other number of threads: one to wake them, and one to measure."""
PATIENCE = 2000
"""How often a leader looks whether its helpers are ready; most of these looks give the processor away."""
IDLE_PATIENCE = 3000
"""How often a helper looks for work before it sleeps: about a millisecond."""
CALLS_TO_HELP = 50
"""After so many calls that nobody answered, the leader does the work alone."""


def available_threads() -> int:
    """Return how many processors this process may use, at most NUMBA_NUM_THREADS; empty is as if it were not set.

    Raises
    ------
    UsageError
        NUMBA_NUM_THREADS is no whole number of at least 1.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("NUMBA_NUM_THREADS") or str(allowed)
    if not wanted.isdecimal() or int(wanted[:9]) < 1:
        raise UsageError(f"NUMBA_NUM_THREADS is {wanted!r}; it must be a whole number of at least 1")
    return min(allowed, int(wanted[:9]))


class Team:
    """Threads that run jobs together. The caller's thread leads; helpers start when they are first needed.

    A job runs within one call of a compiled function, which first makes sure of the helpers: a keyboard
    interrupt comes before it or after it, and never leaves a thread waiting for another. Helpers look out for
    work for a millisecond after a job and then sleep. They end when the team is closed or forgotten.

    Parameters
    ----------
    size : int
        Threads, the caller's among them.
    """

    def __init__(self, size: int) -> None:
        from loihi_mmfree.sim.engine.kernels.runtime.native import load_take_part

        self.size = size
        self._take_part = load_take_part()
        self._yield_address = _yield_address()
        self._control = np.zeros(STATES + 8 * size, dtype=np.int64)
        self._address: int = self._control.ctypes.data
        self._bells: list[threading.Lock] = []
        self._helpers: list[threading.Thread] = []
        self.close = weakref.finalize(self, _end, self._control, self._bells, self._helpers)
        """End the helpers. Does nothing the second time."""

    def run(self, job: int, members: int) -> None:
        """Do the job at an address with so many of the team, or alone if the others do not come."""
        take_part, control = self._take_part, self._address
        for _ in range(CALLS_TO_HELP if members > 1 else 0):
            if take_part(0, control, job, members, PATIENCE, self._yield_address):
                return
            self._call_helpers()
        take_part(0, control, job, 1, PATIENCE, self._yield_address)

    def _call_helpers(self) -> None:
        if not self._helpers:
            self._bells += [threading.Lock() for _ in range(1, self.size)]
            for number, bell in enumerate(self._bells, start=1):
                given = (number, self._control, bell, self._yield_address)
                self._helpers.append(threading.Thread(target=_help, args=given, name="engine", daemon=True))
                self._helpers[-1].start()
        for bell in self._bells:
            _ring(bell)


def _help(number: int, control: NDArray[np.int64], bell: threading.Lock, yield_address: int) -> None:
    """What a helper does: jobs while there are any, and sleep until the bell rings."""
    from loihi_mmfree.sim.engine.kernels.runtime.native import load_take_part

    take_part = load_take_part()
    while not control[CLOSING]:
        take_part(number, control.ctypes.data, 0, 0, IDLE_PATIENCE, yield_address)
        bell.acquire()


def _ring(bell: threading.Lock) -> None:
    with contextlib.suppress(RuntimeError):  # it rings already
        bell.release()


def _end(control: NDArray[np.int64], bells: list[threading.Lock], helpers: list[threading.Thread]) -> None:
    control[CLOSING] = 1
    for bell in bells:
        _ring(bell)
    for helper in helpers:
        helper.join()


class Pace:
    """Decides whether the whole team works or one member alone.

    On a machine that is busy with other things, threads wait for one another longer than they save. Which is
    faster is measured on the work itself; the integers are the same.
    """

    def __init__(self, choices: set[int]) -> None:
        self._seconds = dict.fromkeys(sorted(choices, reverse=True), 0.0)
        self._calls = 0
        self._warm: set[int] = set()
        self._rank()

    def choose(self) -> int:
        """Return how many members shall work."""
        self._calls += 1
        return self._best if self._calls % PROBE_EVERY > 1 else self._worst

    def record(self, members: int, seconds: float) -> None:
        """Note what a token took; the first of each choice still warms up caches and does not count."""
        if members not in self._warm or self._calls % PROBE_EVERY == 0:
            self._warm.add(members)
            return
        before = self._seconds[members]
        self._seconds[members] = seconds if before == 0.0 else 0.7 * before + 0.3 * seconds
        self._rank()

    def _rank(self) -> None:
        ranked = sorted(self._seconds, key=self._seconds.__getitem__)
        self._best, self._worst = ranked[0], ranked[-1]


class ProgramLibrary:
    """Machine code of neuron programs, each structure compiled once however many plans ask for it."""

    def __init__(self) -> None:
        self._compiled: list[CompiledPrograms] = []
        self._addresses: dict[Structure, int] = {}

    def addresses(self, structures: Sequence[Structure]) -> list[int]:
        """Return the address of each structure's function; they live as long as the library."""
        from loihi_mmfree.sim.engine.kernels.runtime.native import CompiledPrograms

        missing = [each for each in dict.fromkeys(structures) if each not in self._addresses]
        if missing:
            self._compiled.append(CompiledPrograms(missing))
            self._addresses.update(self._compiled[-1].addresses)
        return [self._addresses[each] for each in structures]


def _yield_address() -> int:
    """Return the address of the system's function that gives the processor to another thread, or 0."""
    try:
        library = ctypes.CDLL(None) if os.name == "posix" else ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
        function = library.sched_yield if os.name == "posix" else library.SwitchToThread
    except (OSError, AttributeError, TypeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0

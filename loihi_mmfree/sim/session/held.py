"""A board that is held: let go of once and whole, whatever ends the run, and not waited for without end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.interrupts import ENDING, deferred
from loihi_mmfree.sim.backend import TakeLogits
from loihi_mmfree.sim.session.plug_ins import ChipRunner


class HeldBoard(ChipRunner):
    """A registered runner's network, between opening and the release of the board.

    It is closed once: by its user, or when a read fails, is interrupted, or takes longer than the runner's
    `answer_seconds`. A second Ctrl-C waits until it has let go. The limit of time holds in the main thread, and
    takes effect where Python does.

    Parameters
    ----------
    runner : ChipRunner
    """

    def __init__(self, runner: ChipRunner) -> None:
        self._runner, self._is_closed = runner, False

    @property
    def logit_scale(self) -> float:
        """That of the runner."""
        return self._runner.logit_scale

    @property
    def steps(self) -> int:
        """Those of the runner."""
        return self._runner.steps

    @property
    def counters(self) -> Counters:
        """Those of the runner."""
        return self._runner.counters

    @property
    def probes(self) -> Any:
        """Those of the runner."""
        return getattr(self._runner, "probes", None)

    def read(self, ids: NDArray[np.int64], take: TakeLogits | None = None) -> NDArray[np.int32]:
        """Read tokens on the board; see `Backend.read`.

        Raises
        ------
        SimulationError
            It did not answer in time. The board has been let go of.
        """
        try:
            with _limited(self._runner.answer_seconds):
                return self._runner.read(ids, take)
        except BaseException:
            self.close()
            raise

    def reset(self) -> None:
        """Begin a new sequence."""
        self._runner.reset()

    def close(self) -> None:
        """Let go of the board. Does nothing the second time."""
        if self._is_closed:
            return
        with deferred(*ENDING):
            self._is_closed = True
            self._runner.close()


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Within this block, raise SimulationError after so many seconds; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SimulationError(
            f"backend loihi2: the board did not answer within {seconds:g} s and has been let go of; a runner's "
            "`answer_seconds` says how long a read may take"
        )

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)

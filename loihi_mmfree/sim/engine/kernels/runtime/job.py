"""What a team of threads is given to do: numbers and addresses in one int64 array. Imports no numba."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Setting(IntEnum):
    """Places of numbers in a job.

    `TOKENS` to run; whether `LAST_ONLY` the logits of the last one are wanted; `STRICT`, whether overflows are
    counted; `ACCUMULATOR_BITS`; the number of `THREADS` that the buffers have room for; the number of `NODES` that
    count by token.
    """

    TOKENS = 0
    LAST_ONLY = 1
    STRICT = 2
    ACCUMULATOR_BITS = 3
    THREADS = 4
    NODES = 5


class Buffer(IntEnum):
    """Arrays of a job; see `network.run_network`."""

    PLAN = 0
    CODE = 1
    LINKS = 2
    VALUES = 3
    LOGITS = 4
    PLANES = 5
    MATRICES = 6
    CONSTANTS = 7
    STATES = 8
    TABLES = 9
    MEMORY = 10
    TILES = 11
    SCRATCH = 12
    COUNTERS = 13
    MESSAGES = 14
    INCIDENTS = 15
    SEQUENCES = 16


FIRST_BUFFER = 8
"""Where addresses and sizes begin."""
JOB_SIZE = FIRST_BUFFER + 2 * len(Buffer)


def empty_job() -> NDArray[np.int64]:
    """Return a job of nothing."""
    return np.zeros(JOB_SIZE, dtype=np.int64)


def set_buffer(job: NDArray[np.int64], which: Buffer, array: np.ndarray) -> None:
    """Enter an array, which has to be contiguous and to live as long as the job."""
    place = FIRST_BUFFER + 2 * which
    job[place], job[place + 1] = array.ctypes.data, array.size

"""Very small networks of Lava processes, run in one OS process, step by step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.proc.io.source import RingBuffer

from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime

Run = Callable[..., np.ndarray]


@pytest.fixture
def run_steps() -> Run:
    """Send one vector a time step into a port, and return what another port sends in each of these steps."""

    def run(enters: InPort, leaves: OutPort, messages: np.ndarray, config: object) -> np.ndarray:
        source = RingBuffer(data=messages.T)
        source.s_out.connect(enters)
        leaves.flag_external_pipe()
        with InProcessRuntime(source, config) as runtime:
            runtime.begin(len(messages))
            return np.stack([runtime.receive(leaves) for _ in messages])

    return run


@pytest.fixture
def random() -> np.random.Generator:
    """A generator of the same random numbers for every test."""
    return np.random.default_rng(0)

"""Stock Lava under guard: whatever the actors do, the host gets an error that names them, and nothing stays."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest
from lava.magma.core.run_conditions import RunContinuous
from lava.magma.core.run_configs import Loihi2SimCfg
from runtime_processes import Adder, Counter, Culprit, Relay

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.sim.lava.runtimes.stock import StockRuntime

pytestmark = pytest.mark.usefixtures("nothing_left")
CONFIG = Loihi2SimCfg()


def culprit_and_witness(how: str) -> Culprit:
    """A process that misbehaves in time step 3, and one that waits for it."""
    culprit = Culprit(how)
    culprit.s_out.connect(Relay("witness").a_in)
    return culprit


def test_every_process_is_an_os_process_with_shared_memory(shared_memory_names: list[str]) -> None:
    with StockRuntime(culprit_and_witness("behave"), CONFIG) as runtime:
        runtime.run(4)
        # The two processes, their runtime service, and the server of the shared memory.
        assert len(multiprocessing.active_children()) == 4
        assert shared_memory_names


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "failed: ValueError: three is too many"),
        ("raise unsendable", "failed with an exception that cannot be sent between OS processes"),
        ("die", "ended unexpectedly, killed by signal SIGKILL"),
        ("exit", "ended unexpectedly, with exit code 0"),
        ("build", "failed: ValueError: cannot be built"),
        ("die in build", "ended unexpectedly, killed by signal SIGKILL"),
    ],
)
def test_a_failure_is_reported_within_seconds(how: str, reason: str) -> None:
    begin = time.monotonic()
    with (
        pytest.raises(SimulationError, match=rf"culprit \(Culprit\) {reason}"),
        StockRuntime(culprit_and_witness(how), CONFIG) as runtime,
    ):
        runtime.run(10)
    assert time.monotonic() - begin < 8


def test_the_traceback_in_the_actor_is_part_of_the_error() -> None:
    with (
        pytest.raises(SimulationError) as failure,
        StockRuntime(culprit_and_witness("raise"), CONFIG) as runtime,
    ):
        runtime.run(10)
    cause = failure.value.__cause__
    assert cause is not None
    assert "in _misbehave" in str(cause.__cause__)


def test_a_failure_is_reported_to_a_host_that_waits_for_messages() -> None:
    culprit = Culprit("raise")
    culprit.s_out.flag_external_pipe()
    with StockRuntime(culprit, CONFIG) as runtime:
        runtime.begin(10)
        runtime.receive(culprit.s_out)
        runtime.receive(culprit.s_out)
        with pytest.raises(SimulationError, match="three is too many"):
            runtime.receive(culprit.s_out)


def test_a_network_without_progress_is_an_error_in_time() -> None:
    neuron = Relay("neuron")
    neuron.s_out.connect(neuron.a_in)
    with StockRuntime(neuron, CONFIG, timeout_seconds=1) as runtime:
        begin = time.monotonic()
        with pytest.raises(SimulationError, match="no progress: the host waited 1 s"):
            runtime.run(1)
        assert time.monotonic() - begin < 4


def test_a_full_pipe_to_a_network_at_rest_is_an_error_in_time() -> None:
    adder = Adder(buffer_size=1)
    with StockRuntime(adder, CONFIG, timeout_seconds=1) as runtime:
        runtime.send(adder.a_in, np.zeros(2))
        with pytest.raises(SimulationError, match="no progress"):
            runtime.send(adder.a_in, np.zeros(2))


def test_a_process_that_computes_for_long_is_not_taken_for_a_deadlock() -> None:
    with StockRuntime(culprit_and_witness("compute"), CONFIG, timeout_seconds=0.6) as runtime:
        runtime.run(3)


def test_ctrl_c_reaches_the_host_alone_and_ends_the_network(capfd: pytest.CaptureFixture[str]) -> None:
    def press_ctrl_c() -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGINT)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, press_ctrl_c)
    with StockRuntime(culprit_and_witness("sleep"), CONFIG) as runtime:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            runtime.run(10)
        runtime.abort()
    timer.join()
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_after_a_pause_is_refused_for_lava_would_hang() -> None:
    counter = Counter(buffer_size=1000)
    with StockRuntime(counter, CONFIG) as runtime:
        runtime.start(RunContinuous())
        runtime.receive(counter.out)
        runtime.pause()
        with pytest.raises(SimulationError, match=r"cannot run again after pause\(\)"):
            runtime.run(1)

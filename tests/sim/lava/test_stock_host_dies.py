"""Stock Lava under guard: whatever happens to the host, no OS process and no shared memory outlives it."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lava.magma.core.run_configs import Loihi2SimCfg
from runtime_processes import Relay

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.sim.lava.runtimes.stock import StockRuntime

HOST = """
import sys
sys.path.insert(0, sys.argv[1])
from loihi_mmfree.sim.lava.runtimes.stock import StockRuntime
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.runtime.message_infrastructure.shared_memory_manager import SharedMemoryManager
from runtime_processes import Counter
made, create = [], SharedMemoryManager.create_shared_memory
def recorded(self, size):
    made.append(create(self, size))
    return made[-1]
SharedMemoryManager.create_shared_memory = recorded
import multiprocessing
with StockRuntime(Counter(), Loihi2SimCfg()) as runtime:
    runtime.begin(10**9)
    children = [str(each.pid) for each in multiprocessing.active_children()]
    print(",".join(children), ",".join(each.name for each in made), flush=True)
    runtime.wait()
"""


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory is no file here")
def test_nothing_outlives_a_host_that_is_killed() -> None:
    nets = Path(__file__).parent / "inprocess_nets"
    host = subprocess.Popen([sys.executable, "-c", HOST, str(nets)], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    children, memory = (each.split(",") for each in host.stdout.readline().split())
    assert len(children) == 3  # The process, its runtime service, and the server of the shared memory.
    assert all(Path("/dev/shm", name).exists() for name in memory)
    host.send_signal(signal.SIGKILL)
    host.wait()
    until = time.monotonic() + 30
    left = [Path("/proc", each) for each in children] + [Path("/dev/shm", name) for name in memory]
    while any(path.exists() for path in left) and time.monotonic() < until:
        time.sleep(0.05)
    assert [path for path in left if path.exists()] == []


def test_a_network_with_too_few_file_handles_is_refused_before_it_starts() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, limits[1]))
    try:
        with (
            pytest.raises(SimulationError, match=r"opens about \d+ files .* and the system allows 20: raise"),
            StockRuntime(Relay("alone"), Loihi2SimCfg()),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

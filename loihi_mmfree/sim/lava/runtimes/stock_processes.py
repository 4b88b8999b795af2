"""The OS processes of stock Lava: none outlives the host, and none hears the Ctrl-C that is meant for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSendPort
from lava.magma.runtime.message_infrastructure.multiprocessing import MultiProcessing, SystemProcess
from lava.magma.runtime.message_infrastructure.shared_memory_manager import SharedMemoryManager

from loihi_mmfree.interrupts import deferred

GRACE_SECONDS = 2.0
"""An actor gets this long to report its exception after another one noticed, and to exit after STOP."""


class GuardedMultiProcessing(MultiProcessing):
    """Lava's own actors, but Ctrl-C, which a terminal sends to every process, reaches the host alone.

    None of them outlives the host, however that ends; Python frees the shared memory when the last has gone.
    """

    def start(self) -> None:
        """Start the server of the shared memory."""
        self._smm = SharedMemoryManager()
        self._smm._manager.start(end_with_parent)

    def build_actor(self, target_fn: Callable[..., None], builder: Any, exception_q: Any = None) -> SystemProcess:
        """Start an OS process."""
        with deferred(signal.SIGINT):
            return super().build_actor(partial(_act, target_fn), builder, exception_q)


def end_with_parent() -> None:
    """In an OS process that was forked: end it when the one that forked it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="ends with the host", daemon=True).start()


def _act(target: Callable[..., None], **options: Any) -> None:
    end_with_parent()
    target(**options)


def kill(actor: SystemProcess) -> None:
    """Kill and reap an OS process."""
    actor.kill()
    # Not SystemProcess.join: it reads what the actor reports, which may have been cut off.
    multiprocessing.Process.join(actor)
    actor.close()
    actor._pconn.close()
    actor._cconn.close()
    actor._is_done = True


def end_thread(port: CspSendPort | CspRecvPort) -> None:
    """End the thread of one of the host's ports, and let go of its shared memory."""
    port.join()
    port.thread.join(GRACE_SECONDS)
    # The arrays are views of the shared memory, which cannot be freed before them.
    port._array = []


def exit_reason(code: int) -> str:
    """Say how an OS process ended."""
    if code < 0:
        return f"killed by signal {signal.Signals(-code).name}"
    return f"with exit code {code}"


def processor_ticks(pid: int) -> int:
    """Count the processor time of an OS process, in ticks of the system's clock (0 if unknown)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    user, system = fields[11:13]
    return int(user) + int(system)

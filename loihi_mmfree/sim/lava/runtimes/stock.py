"""Stock Lava, one OS process for each process of the network, with a guard: a run ends or fails, never hangs.

Lava's own code runs untouched in the actors. Lava's host waits for them without a limit, and an exception in a
ProcessModel leaves it waiting for ever (lava issue 178); here each wait of the host watches the actors:

    with StockRuntime(output, Loihi2SimCfg(select_tag="fixed_pt"), timeout_seconds=30) as runtime:
        runtime.run(3)
        runtime.begin(5)
        messages = [runtime.receive(output.out) for _ in range(5)]

The interface is that of `InProcessRuntime` in the file beside this one. A ProcessModel that raises, an actor that
dies, and a network without progress raise SimulationError with the process's name; after that, after
Ctrl-C and after a normal end, no OS process, thread or shared memory is left.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import Empty
from typing import Any, NoReturn

import numpy as np
from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspRecvQueue, CspSendPort
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_conditions import AbstractRunCondition
from lava.magma.core.run_configs import RunConfig
from lava.magma.runtime.message_infrastructure.multiprocessing import SystemProcess
from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.interrupts import deferred
from loihi_mmfree.sim.lava.runtimes.base import NetworkRuntime, describe
from loihi_mmfree.sim.lava.runtimes.stock_processes import (
    GRACE_SECONDS,
    GuardedMultiProcessing,
    end_thread,
    exit_reason,
    kill,
    processor_ticks,
)

CHECK_SECONDS = 0.1
"""The host looks after the actors this often while it waits."""


HANDLES = 16
"""Files that the host has open while it starts a network, beside those for each process and channel."""

HANDLES_OF_PROCESS = 6
"""Pipes to an OS process: for its end, for its exception, and for the host's wait until it is built."""


class StockRuntime(NetworkRuntime):
    """Runs a Lava network in OS processes of its own. See NetworkRuntime for how to drive it.

    Parameters
    ----------
    process : AbstractProcess
        Any process of the network.
    run_cfg : RunConfig
        Chooses the ProcessModels.
    timeout_seconds : float
        The host waits this long without progress: no message for it, and no actor that computes (on Linux; on
        other systems, no message for it).
    compile_config : mapping, optional
        As for NetworkRuntime.
    """

    def __init__(
        self,
        process: AbstractProcess,
        run_cfg: RunConfig,
        timeout_seconds: float = 60.0,
        compile_config: Mapping[str, Any] | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._names: list[str] = []
        self.exception_q: list[Any] = []
        self._host_ports: list[CspSendPort | CspRecvPort] = []
        self._is_stopping = False
        self._was_paused = False
        super().__init__(process, run_cfg, compile_config)

    def initialize(self, node_cfg_idx: int = 0) -> None:
        """Build and start all processes; on an error, none is left."""
        self._require_file_handles()
        super().initialize(node_cfg_idx)

    def start(self, run_condition: AbstractRunCondition) -> None:
        """Run under one of Lava's run conditions; a run that `begin` started is finished first."""
        if self._was_paused:
            raise SimulationError(
                "Lava's stock runtime cannot run again after pause(), for its service never reports an end any "
                "more: build the network anew, or use InProcessRuntime"
            )
        super().start(run_condition)

    def pause(self) -> None:
        """End a run under way after its current time step. Stock Lava cannot run the network again after it."""
        self._was_paused = self._was_paused or self._is_running
        super().pause()

    def abort(self) -> None:
        """End the network at once: kill and reap its OS processes, end the host's threads, free the memory."""
        if self._is_aborted:
            return
        self._is_aborted = True
        self._is_started = self._is_running = False
        if self._messaging_infrastructure is None:
            return
        with deferred(signal.SIGINT):
            try:
                for actor in self._messaging_infrastructure.actors:
                    kill(actor)
                for port in self._host_ports:
                    end_thread(port)
            finally:
                self._messaging_infrastructure.smm.shutdown()

    def watch(self) -> Watch:
        """Begin to look after the actors while the host waits."""
        return Watch(self, self._timeout_seconds)

    def raise_failures(self) -> None:
        """Raise SimulationError if an actor raised an exception or ended, after the end of all."""
        self._raise_exceptions()
        ended = [(name, actor.exitcode) for name, actor in self._named_actors() if actor.exitcode is not None]
        if all(code == 0 and self._is_stopping for _, code in ended):
            return
        if all(code >= 0 for _, code in ended):
            self._await_exceptions()
        # Killed before failed before exited: the later ones are consequences of the earlier.
        name, code = min(ended, key=lambda actor: (actor[1] == 0, actor[1]))
        self.fail(f"{name} ended unexpectedly, {exit_reason(code)}")

    def fail(self, message: str, cause: BaseException | None = None) -> NoReturn:
        """End all and raise SimulationError."""
        self.abort()
        raise SimulationError(message) from cause

    def processor_ticks(self) -> int:
        """Count the processor time that the actors have used, in ticks of the system's clock (0 if unknown)."""
        return sum(processor_ticks(actor.pid) for actor in self._messaging_infrastructure.actors)

    def _require_file_handles(self) -> None:
        """Refuse a network for which this process may not open files enough: Lava would fail half-way."""
        import resource

        executable = self._executable
        processes = len(executable.proc_builders) + len(executable.runtime_service_builders)
        channels = len(executable.channel_builders) + len(executable.sync_channel_builders)
        channels += sum(
            getattr(process, name).external_pipe_flag
            for process, builder in executable.proc_builders.items()
            for name in builder.py_ports
        )
        needed = HANDLES + HANDLES_OF_PROCESS * processes + channels
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if needed > allowed:
            raise SimulationError(
                f"stock Lava opens about {needed} files for the {processes} OS processes of this network, and the "
                f"system allows {allowed}: raise the limit (ulimit -n {needed}), or run it in one process"
            )

    def _named_actors(self) -> Iterator[tuple[str, SystemProcess]]:
        return zip(self._names, self._messaging_infrastructure.actors, strict=False)

    def _raise_exceptions(self) -> None:
        if not any(True for _ in self._exceptions()):
            return
        time.sleep(CHECK_SECONDS)  # Others that fail in the same time step report now, too.
        found = list(self._exceptions())
        said = [message for message, _ in found]
        self.fail(said[0] if len(said) == 1 else f"{len(said)} processes failed: " + "; ".join(said), found[0][1])

    def _exceptions(self) -> Iterator[tuple[str, Exception | None]]:
        """What actors have reported: a message, and the exception if it could be sent."""
        for name, actor in self._named_actors():
            try:
                reported = actor.exception
            except Exception as unsendable:
                reported = actor._exception = (UnsendableError(str(unsendable)), "")
            if reported is None:
                continue
            error, trace = reported
            if isinstance(error, UnsendableError):
                yield f"{name} failed with an exception that cannot be sent between OS processes: {error}", None
            else:
                yield _said(name, error), _caused(error, trace)

    def _await_exceptions(self) -> None:
        """Give the actor that caused what another one noticed the time to report."""
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            self._raise_exceptions()
            time.sleep(CHECK_SECONDS)

    def _response(self, port: CspRecvPort) -> np.ndarray:
        response = super()._response(port)
        if enum_equal(response, MGMT_RESPONSE.ERROR):
            self._await_exceptions()
            self.fail("a process reported an error, but no exception")
        return response

    def _first_ready(self, ports: Sequence[CspRecvPort]) -> CspRecvPort:
        watch = self.watch()
        while True:
            for port in ports:
                if port.probe():
                    return port
            # Most often the first to answer; the others are looked at when it does not.
            with contextlib.suppress(Empty):
                ports[0]._queue.get(timeout=CHECK_SECONDS, peek=True)
                return ports[0]
            watch.check()

    def _stop_services(self) -> None:
        if self._is_running:
            return  # Lava's service would not hear it before a process that waits for the host.
        self._is_stopping = True
        super()._stop_services()
        deadline = time.monotonic() + GRACE_SECONDS
        for actor in self._messaging_infrastructure.actors:
            multiprocessing.Process.join(actor, max(0.0, deadline - time.monotonic()))

    def _build_message_infrastructure(self) -> None:
        with deferred(signal.SIGINT):
            self._messaging_infrastructure = GuardedMultiProcessing()
            self._messaging_infrastructure.start()

    def _build_processes(self) -> None:
        self._names += [describe(process) for process in self._executable.proc_builders]
        super()._build_processes()

    def _build_runtime_services(self) -> None:
        domains = self._executable.runtime_service_builders
        self._names += [f"the runtime service of {domain.name}" for domain in domains]
        super()._build_runtime_services()

    def _create_external_channels(self, proc: AbstractProcess, proc_builder: Any) -> None:
        with deferred(signal.SIGINT):
            super()._create_external_channels(proc, proc_builder)
            for name in proc_builder.py_ports:
                port = getattr(proc, name)
                if port.external_pipe_flag and isinstance(port, InPort):
                    self._guard(port.external_pipe_csp_send_port)
                elif port.external_pipe_flag:
                    self._guard(port.external_pipe_csp_recv_port)

    def _start_ports(self) -> None:
        with deferred(signal.SIGINT):
            super()._start_ports()
            for port in (*self.runtime_to_service, *self.service_to_runtime):
                self._guard(port)
        # Lava waits here for each actor to be built, without a limit.
        queues, self.exception_q = self.exception_q, []
        for name, queue in zip(self._names, queues, strict=True):
            self._await_built(name, queue)

    def _await_built(self, name: str, queue: Any) -> None:
        watch = self.watch()
        while True:
            try:
                error = queue.get(timeout=CHECK_SECONDS)
            except Empty:
                watch.check()
                continue
            if error is not None:
                self.fail(_said(name, error), _caused(error, error.trace))
            return

    def _guard(self, port: CspSendPort | CspRecvPort) -> None:
        """Have a port of the host watch the actors while it waits."""
        self._host_ports.append(port)
        if isinstance(port, CspRecvPort):
            port._queue = GuardedQueue(port.size, self.watch)
        else:
            port._semaphore = GuardedSemaphore(port.size, self.watch)


class UnsendableError(Exception):
    """An actor's exception that cannot be sent between OS processes."""


class ActorTracebackError(Exception):
    """The traceback of an exception in an actor, as text; shown as the exception's cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Watch:
    """One wait of the host: looks after the actors from time to time, and for progress."""

    def __init__(self, runtime: StockRuntime, timeout_seconds: float) -> None:
        self._runtime = runtime
        self._timeout_seconds = timeout_seconds
        self._ticks: int | None = None
        self._next_sample = time.monotonic() + timeout_seconds / 2

    def check(self) -> None:
        """Raise SimulationError if an actor failed, or if none has computed for half of the time allowed."""
        self._runtime.raise_failures()
        if time.monotonic() < self._next_sample:
            return
        ticks = self._runtime.processor_ticks()
        if ticks == self._ticks:
            self._runtime.fail(
                f"no progress: the host waited {self._timeout_seconds:g} s for a message while no process "
                "computed. It is a deadlock (every cycle of processes needs a synapse), or more was asked for "
                "than the run sends; InProcessRuntime names the ports that wait"
            )
        self._ticks = ticks
        self._next_sample += self._timeout_seconds / 2


class GuardedQueue(CspRecvQueue):
    """The queue of a receiving port of the host: a wait without a limit looks after the actors."""

    def __init__(self, size: int, watch: Callable[[], Watch]) -> None:
        super().__init__(size)
        self._watch = watch

    def get(self, block: bool = True, timeout: float | None = None, peek: bool = False) -> Any:
        """Return the next item; `peek` leaves it in the queue."""
        if not block or timeout is not None:
            return super().get(block, timeout, peek)
        watch = self._watch()
        while True:
            try:
                return super().get(True, CHECK_SECONDS, peek)
            except Empty:
                watch.check()


class GuardedSemaphore(threading.BoundedSemaphore):
    """Counts the room behind a sending port of the host: a wait without a limit looks after the actors."""

    def __init__(self, size: int, watch: Callable[[], Watch]) -> None:
        super().__init__(size)
        self._watch = watch

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take one unit of room."""
        if not blocking or timeout is not None:
            return super().acquire(blocking, timeout)
        watch = self._watch()
        while not super().acquire(True, CHECK_SECONDS):
            watch.check()
        return True


def _said(name: str, error: Exception) -> str:
    return f"{name} failed: {type(error).__name__}: {error}"


def _caused(error: Exception, trace: str) -> Exception:
    error.__cause__ = ActorTracebackError(trace)
    return error

"""What the two runtimes of a Lava network, in one process and in many, have in common for their caller."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from lava.magma.compiler import compiler_graphs
from lava.magma.compiler.channels.pypychannel import CspRecvPort
from lava.magma.compiler.channels.watchdog import NoOPWatchdogManager
from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_conditions import AbstractRunCondition, RunContinuous, RunSteps
from lava.magma.core.run_configs import RunConfig
from lava.magma.runtime.mgmt_token_enums import MGMT_COMMAND, MGMT_RESPONSE, enum_equal
from lava.magma.runtime.runtime import Runtime

from loihi_mmfree.errors import SimulationError

Self = TypeVar("Self", bound="NetworkRuntime")


COMPILER_RECURSION = 10_000
"""Lava's compiler calls itself once or twice for each process of a network."""


class NetworkRuntime(Runtime):
    """Lava's Runtime of one network, as a context manager that never hangs and leaves nothing behind.

    Entering it builds and starts the network, leaving it ends all of it. In between, `run`, `begin`, `send`,
    `receive`, `wait` and `pause` drive it, and so do Lava's own `process.run(RunSteps(n))`, `process.pause()`,
    `var.get()` and `var.set()`, which come here.

    Parameters
    ----------
    process : AbstractProcess
        Any process of the network; the ones connected to it are found from there.
    run_cfg : RunConfig
        Chooses the ProcessModels.
    compile_config : mapping, optional
        Settings of Lava's compiler, such as `pypy_channel_size`, the messages that a channel holds. Its watchdogs
        have no effect: these runtimes look after a network themselves.

    Raises
    ------
    SimulationError
        If the process was compiled before: Lava compiles a process only once.
    """

    _is_started = False
    _is_running = False
    _is_aborted = False
    _unanswered: list[CspRecvPort]

    def __init__(
        self, process: AbstractProcess, run_cfg: RunConfig, compile_config: Mapping[str, Any] | None = None
    ) -> None:
        if process.is_compiled:
            raise SimulationError(
                f"{describe(process)} was compiled before, and Lava compiles a process only once: "
                "build the network anew for another run"
            )
        with _one_model_search_per_class(), _one_visit_per_process(), _deep_recursion():
            executable = process.compile(run_cfg, dict(compile_config or {}))
        super().__init__(executable, ActorType.MultiProcessing)
        process.runtime = self
        executable.assign_runtime_to_all_processes(self)

    def __enter__(self: Self) -> Self:
        self.initialize()
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc_val: object, exc_tb: object) -> None:
        if exc_type is None:
            self.stop()
        else:
            self.abort()

    def initialize(self, node_cfg_idx: int = 0) -> None:
        """Build and start all processes; on an error, none is left."""
        try:
            super().initialize(node_cfg_idx)
        except BaseException:
            self.abort()
            raise
        self._is_started = True

    def run(self, steps: int) -> None:
        """Run the network for a number of time steps, and wait for their end.

        Raises
        ------
        SimulationError
            If a process fails or the network can make no progress. The network has ended then.
        """
        self.start(RunSteps(steps))

    def begin(self, steps: int) -> None:
        """Have the network run for a number of time steps, without waiting: `receive` what it sends meanwhile."""
        self.start(RunSteps(steps, blocking=False))

    def start(self, run_condition: AbstractRunCondition) -> None:
        """Run under one of Lava's run conditions; a run that `begin` started is finished first."""
        self._finish_run("start another run")
        self._run_cond = run_condition
        super().start(run_condition)

    def receive(self, port: OutPort) -> np.ndarray:
        """Wait for the next message that an OutPort sends to the host.

        Parameters
        ----------
        port : OutPort
            Of a leaf process, flagged with `flag_external_pipe()` before the network was built.

        Returns
        -------
        numpy.ndarray
            The message: the port's shape, the type that the ProcessModel declares.

        Raises
        ------
        SimulationError
            If the port has no external pipe, a process fails, or the message can never come.
        """
        self._require_caller()
        return _external_end(port, "external_pipe_csp_recv_port").recv()

    def send(self, port: InPort, data: np.ndarray) -> None:
        """Send a message to an InPort that was flagged with `flag_external_pipe()`; waits while its pipe is full.

        Raises
        ------
        SimulationError
            If the port has no external pipe, a process fails, or the pipe can never get room.
        """
        self._require_caller()
        _external_end(port, "external_pipe_csp_send_port").send(data)

    def pause(self) -> None:
        """End a run under way after its current time step. Does nothing if there is none."""
        self._require_caller()
        if self._is_running:
            self._pause_services()

    def stop(self) -> None:
        """End the network with Lava's STOP, so that ProcessModels can clean up. Does nothing if it has ended."""
        if self._is_aborted:
            return
        self._require_caller()
        try:
            if self._is_initialized and not self._is_ended:
                self._stop_services()
        finally:
            self.abort()

    @abstractmethod
    def abort(self) -> None:
        """End the network at once, wherever it stands, and free all it holds. Does nothing the second time."""

    def get_var(self, var_id: int, idx: np.ndarray | None = None) -> np.ndarray:
        """Read a Var between runs (Lava's `var.get()`); a run that `begin` started is finished first."""
        self._finish_run("read a Var")
        return super().get_var(var_id, idx)

    def set_var(self, var_id: int, value: np.ndarray, idx: np.ndarray | None = None) -> None:
        """Write a Var between runs (Lava's `var.set()`); a run that `begin` started is finished first."""
        self._finish_run("write a Var")
        super().set_var(var_id, value, idx)

    @property
    def _is_ended(self) -> bool:
        return self._is_aborted

    def _require_caller(self) -> None:
        """Raise SimulationError if the caller is somebody who cannot drive the network."""

    def _build_watchdog_manager(self) -> None:
        self._watchdog_manager = NoOPWatchdogManager()

    def _finish_run(self, purpose: str) -> None:
        self._require_caller()
        if self._is_ended or not self._is_initialized:
            state = "has ended: build it anew" if self._is_ended else "is not built: enter the `with` block first"
            raise SimulationError(f"cannot {purpose}: the network {state}")
        if self._is_running and isinstance(self._run_cond, RunContinuous):
            raise SimulationError(f"cannot {purpose} while RunContinuous is under way: call pause() first")
        self.wait()

    def _get_resp_for_run(self) -> None:
        """Wait for the end of a run, as Lava's Runtime does."""
        if not self._is_running:
            return
        self._require_caller()
        waiting = list(self.service_to_runtime)
        while waiting:
            port = self._first_ready(waiting)
            response = self._response(port)
            if enum_equal(response, MGMT_RESPONSE.REQ_PAUSE):
                self._pause_services()
                return
            if enum_equal(response, MGMT_RESPONSE.REQ_STOP):
                self.stop()
                return
            waiting.remove(port)
        self._is_running = False

    def _pause_services(self) -> None:
        self._command_services(MGMT_COMMAND.PAUSE, MGMT_RESPONSE.PAUSED)
        self._is_running = False

    def _stop_services(self) -> None:
        self._command_services(MGMT_COMMAND.STOP, MGMT_RESPONSE.TERMINATED)

    def _command_services(self, command: np.ndarray, answer: np.ndarray) -> None:
        """Give all services a command, and wait until each has answered in whatever order they do."""
        for port in self.runtime_to_service:
            port.send(command)
        self._unanswered = list(self.service_to_runtime)
        while self._unanswered:
            port = self._first_ready(self._unanswered)
            # A run may have reached its end, or a process asked for a pause, before the command came.
            if enum_equal(self._response(port), answer):
                self._unanswered.remove(port)

    @abstractmethod
    def _first_ready(self, ports: Sequence[CspRecvPort]) -> CspRecvPort:
        """Wait until one of the ports of services has a message, and return that port."""

    def _response(self, port: CspRecvPort) -> np.ndarray:
        """Receive what a RuntimeService answers."""
        return port.recv()


def describe(process: AbstractProcess) -> str:
    """Name a process in a message to the user: its name and its class."""
    return f"{process.name} ({type(process).__name__})"


def _external_end(port: InPort | OutPort, end: str) -> Any:
    if not hasattr(port, end):
        raise SimulationError(
            f"port {port.name!r} of {describe(port.process)} has no external pipe: call its flag_external_pipe() "
            "before the network is built, on a leaf process (one without a SubProcessModel)"
        )
    return getattr(port, end)


@contextmanager
def _one_model_search_per_class() -> Iterator[None]:
    """Within this block, Lava's compiler searches the ProcessModels of a class once, not once per process.

    A search executes every .py file in the folder of the process's module.
    """
    search: Callable[[AbstractProcess], list[type]] = ProcGroupDiGraphs._find_proc_models
    found: dict[type, list[type]] = {}

    def search_once(proc: AbstractProcess) -> list[type]:
        if type(proc) not in found:
            found[type(proc)] = search(proc)
        return list(found[type(proc)])

    ProcGroupDiGraphs._find_proc_models = staticmethod(search_once)
    try:
        yield
    finally:
        ProcGroupDiGraphs._find_proc_models = staticmethod(search)


@contextmanager
def _one_visit_per_process() -> Iterator[None]:
    """Within this block, Lava's compiler finds the processes of a network in linear time, and in the same order.

    Its own search calls itself for each process and returns lists that grow with every call: ten seconds for a
    thousand processes.
    """
    search = compiler_graphs.find_processes
    compiler_graphs.find_processes = _connected_processes
    try:
        yield
    finally:
        compiler_graphs.find_processes = search


def _connected_processes(process: AbstractProcess) -> list[AbstractProcess]:
    found = {process: None}
    waiting = [process]
    while waiting:
        each = waiting.pop()
        for kind in (each.in_ports, each.out_ports, each.var_ports, each.ref_ports):
            for port in kind.members:
                for other in (*port.get_src_ports(), *port.get_dst_ports()):
                    if other.process not in found:
                        found[other.process] = None
                        waiting.append(other.process)
    return list(found)


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Within this block, let functions call themselves often enough for networks of thousands of processes."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, COMPILER_RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)

"""Lava in one OS process: its own compiler, Runtime, RuntimeServices and ProcessModels, on greenlets.

Stock Lava gives every process of a network an OS process of its own with some eight threads, and a time step
of a small process costs some 400 microseconds. Here each is a greenlet: the same sequence of commands, phases
and messages, some twenty times faster, and a network that can make no progress is noticed at once. Stock
Lava in the same interpreter is not touched.

    output = OutputProcess(shape=(4,))               # an own process; its OutPort `out` goes to the host
    output.out.flag_external_pipe()
    neurons.s_out.connect(output.a_in)
    with InProcessRuntime(output, Loihi2SimCfg(select_tag="fixed_pt")) as runtime:
        runtime.run(3)                               # three time steps; or neurons.run(RunSteps(3))
        potential = neurons.v.get()                  # Vars between runs, as ever
        runtime.begin(5)                             # five more, without waiting ...
        messages = [runtime.receive(output.out) for _ in range(5)]   # ... for we take what they send
    # all is gone here: after an error or Ctrl-C too

Whatever goes wrong is a SimulationError that names the process: an exception in a ProcessModel (its cause)
with the time step, or a deadlock with the processes and ports that wait. The network runs only while its host
waits for it (in `run`, `wait`, `receive`, `send`, `pause`, `stop`, `var.get`), in the thread that built it. The
stock counterpart with the same interface is `loihi_mmfree.sim.lava.runtimes.stock.StockRuntime`.

Stock Lava forks, so that a ProcessModel has the parameters of its process, and the state of `np.random`, as they
were then, for itself. Here it gets copies. What a fork copies too and this does not: attributes of classes and
modules, the `random` module of Python, and parameters that cannot be copied, such as locks and open files.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from types import FunctionType, MethodType

import numpy as np
from lava.magma.compiler.builders.interfaces import AbstractProcessBuilder
from lava.magma.compiler.channels.pypychannel import CspRecvPort
from lava.magma.compiler.executable import Executable
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.runtime.mgmt_token_enums import MGMT_COMMAND, enum_to_np
from lava.magma.runtime.runtime_services.runtime_service import LoihiPyRuntimeService, PyRuntimeService
from lava.proc.io.injector import PyLoihiInjectorModel, PyLoihiInjectorModelAsync

from loihi_mmfree.processes.scheduled import LeanModel
from loihi_mmfree.sim.lava.runtimes.base import NetworkRuntime, describe
from loihi_mmfree.sim.lava.runtimes.channels import (
    ChannelFromHost,
    ChannelToHost,
    HostRecvPort,
    InProcessInfrastructure,
    InProcessSelector,
    InProcessSendPort,
)
from loihi_mmfree.sim.lava.runtimes.fork import give_own_copies
from loihi_mmfree.sim.lava.runtimes.scheduler import Actor, DeadlockError, Scheduler, failures_named

STOP_SECONDS = 10.0
"""A network that is stopped in a run gets this long to end its time step; then it ends where it is."""


class InProcessRuntime(NetworkRuntime):
    """Runs a Lava network in this OS process and thread. See NetworkRuntime for how to drive it."""

    def abort(self) -> None:
        """End the network at once, wherever it stands."""
        if self._is_aborted:
            return
        self._require_caller()
        self._is_aborted = True
        self._is_started = self._is_running = False
        if self._messaging_infrastructure is not None:
            self._messaging_infrastructure.stop()

    @property
    def _is_ended(self) -> bool:
        return self._is_aborted or (self._is_initialized and self._scheduler.is_ended)

    @property
    def _scheduler(self) -> Scheduler:
        return self._messaging_infrastructure.scheduler

    def _require_caller(self) -> None:
        if self._messaging_infrastructure is not None:
            self._scheduler.require_host()

    def _first_ready(self, ports: Sequence[CspRecvPort]) -> CspRecvPort:
        return InProcessSelector(self._scheduler).select(*((port, lambda port=port: port) for port in ports))

    def _stop_services(self) -> None:
        if not self._is_running:
            super()._stop_services()
            return
        # A process may wait for the host, which has left, or never look whether it is to stop.
        with contextlib.suppress(DeadlockError), self._scheduler.at_most(STOP_SECONDS):
            super()._stop_services()

    def _build_message_infrastructure(self) -> None:
        self._messaging_infrastructure = InProcessInfrastructure()

    def _build_channels(self) -> None:
        super()._build_channels()
        for builder, source in zip(self._executable.channel_builders, self._open_ports[::2], strict=True):
            source.label = source.receiver.label = (
                f"{builder.src_process.name}.{builder.src_port_initializer.name} -> "
                f"{builder.dst_process.name}.{builder.dst_port_initializer.name}"
            )

    def _build_processes(self) -> None:
        give_own_copies(self._executable, self._messaging_infrastructure)
        for process, builder in self._executable.proc_builders.items():
            actor = Actor(describe(process))
            self._create_external_channels(process, builder)
            with failures_named(actor.name), self._scheduler.building(actor):
                model = builder.build()
            model._selector = InProcessSelector(self._scheduler)
            if isinstance(model, PyLoihiInjectorModel | PyLoihiInjectorModelAsync):
                # Lava's injector joins this port when it is deleted, but never sets it.
                model._p_to_pm_dst_port = model.in_port.csp_ports[-1]
            with failures_named(actor.name):
                attends = isinstance(model, LeanModel) and model.prepare()
            if attends:
                self._scheduler.attend(actor, model)
            else:
                self._scheduler.spawn(actor, model)

    def _build_runtime_services(self) -> None:
        self._services: list[PyRuntimeService] = []
        order = _sources_first(self._executable)
        for domain, builder in self._executable.runtime_service_builders.items():
            service = builder.build()
            _replace_selector(service, self._scheduler)
            _command_in_order(service, order)
            if isinstance(service, LoihiPyRuntimeService):
                _command_quickly(service)
            self._services.append(service)
            self._scheduler.spawn(Actor(f"the runtime service of {domain.name}", commands=True), service)

    def _pause_services(self) -> None:
        self._steps_added = 0
        with self._scheduler.relieved_by(self._let_steps_end):
            super()._pause_services()
        self._forget_pause()

    def _forget_pause(self) -> None:
        """Clear what Lava's services set in a pause and never clear: they would report no end of a run again."""
        for service in self._services:
            service.pausing = False

    def _let_steps_end(self) -> bool:
        """Let processes end their time step that wait for a domain which has paused already.

        Returns
        -------
        bool
            Whether there may be any.
        """
        full = [
            actor
            for actor in self._scheduler.waiting()
            for port in actor.waiting_for
            if isinstance(port, InProcessSendPort) and not isinstance(port.receiver, HostRecvPort)
        ]
        for actor in full:  # Its channel holds one message more then; it pauses before it sends another.
            self._scheduler.wake(actor)
        paused = [
            (command, answer)
            for command, answer in zip(self.runtime_to_service, self.service_to_runtime, strict=True)
            if answer not in self._unanswered
        ]
        if full or not paused or self._steps_added == len(self._services):
            return bool(full)
        self._steps_added += 1
        self._forget_pause()
        for command, answer in paused:
            command.send(enum_to_np(self.num_steps))
            command.send(MGMT_COMMAND.PAUSE)  # Which it sees at the end of one step.
            self._unanswered.append(answer)
        return True

    def _create_external_channels(self, proc: AbstractProcess, proc_builder: AbstractProcessBuilder) -> None:
        for name, initializer in proc_builder.py_ports.items():
            port = getattr(proc, name)
            if not port.external_pipe_flag:
                continue
            kind = ChannelFromHost if isinstance(port, InPort) else ChannelToHost
            channel = kind(
                self._messaging_infrastructure,
                name,
                name,
                initializer.shape,
                initializer.d_type,
                port.external_pipe_buffer_size,
            )
            source, destination = channel.src_port, channel.dst_port
            if isinstance(port, InPort):
                source.label = destination.label = f"the host -> {proc.name}.{name}"
                port.external_pipe_csp_send_port = source
                proc_builder.set_csp_ports([destination])
            else:
                source.label = destination.label = f"{proc.name}.{name} -> the host"
                port.external_pipe_csp_recv_port = destination
                proc_builder.set_csp_ports([source])


def _replace_selector(service: PyRuntimeService, scheduler: Scheduler) -> None:
    """Give a service its own `run`, in which the name CspSelector means ours: Lava's would block the thread."""
    run = type(service).run
    names = {**run.__globals__, "CspSelector": lambda: InProcessSelector(scheduler)}
    own_run = FunctionType(run.__code__, names, run.__name__, run.__defaults__, run.__closure__)
    service.run = MethodType(own_run, service)


def _sources_first(executable: Executable) -> dict[int, int]:
    """Number the processes such that senders come before receivers, as far as cycles allow.

    Returns
    -------
    dict of int to int
        The position of each process, by its id.
    """
    successors: dict[int, list[int]] = {process.id: [] for process in executable.proc_builders}
    sources = dict.fromkeys(sorted(successors), 0)
    for channel in executable.channel_builders:
        if channel.src_port_initializer.port_type == "OutPort":
            successors[channel.src_process.id].append(channel.dst_process.id)
            sources[channel.dst_process.id] += 1
    free = deque(process for process, count in sources.items() if count == 0)
    position: dict[int, int] = {}
    while len(position) < len(sources):
        # Every process that is left is behind a cycle: break it at the one that was made first.
        process = free.popleft() if free else next(left for left in sources if left not in position)
        if process in position:
            continue
        position[process] = len(position)
        for successor in successors[process]:
            sources[successor] -= 1
            if sources[successor] == 0:
                free.append(successor)
    return position


def _command_in_order(service: PyRuntimeService, order: dict[int, int]) -> None:
    """Have a service command its processes in this order: most messages are there then when they are awaited.

    Lava's own order is that of a set of objects, another one in each run of the interpreter.
    """
    ranked = sorted(range(len(service.model_ids)), key=lambda index: order[service.model_ids[index]])
    for table in (service.model_ids, service.service_to_process, service.process_to_service):
        table[:] = [table[index] for index in ranked]


def _command_quickly(service: LoihiPyRuntimeService) -> None:
    """Have a service send its commands and read the answers with less Python than Lava's own."""
    answer = LoihiPyRuntimeService.PMResponse
    requests = {
        float(answer.STATUS_ERROR[0]): "_error",
        float(answer.REQ_PRE_LRN_MGMT[0]): "req_pre_lrn_mgmt",
        float(answer.REQ_POST_LRN_MGMT[0]): "req_post_lrn_mgmt",
        float(answer.REQ_LEARNING[0]): "req_lrn",
        float(answer.REQ_PAUSE[0]): "req_pause",
        float(answer.REQ_STOP[0]): "req_stop",
    }

    def send(command: np.ndarray) -> None:
        message = command.copy()
        message.flags.writeable = False
        for port in service.service_to_process:
            port.share(message)

    def receive() -> list[np.ndarray]:
        answers = [port.take() for port in service.process_to_service]
        for each in answers:
            if each[0] and float(each[0]) in requests:
                setattr(service, requests[float(each[0])], True)
        return answers

    service._send_pm_cmd, service._get_pm_resp = send, receive

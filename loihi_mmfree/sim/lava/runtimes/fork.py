"""What a fork gives a ProcessModel of stock Lava: everything that its process was made of, for itself alone."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

from lava.magma.compiler.builders.py_builder import PyProcessBuilder
from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSendPort
from lava.magma.compiler.executable import Executable
from lava.magma.core.process.process import AbstractProcess, ProcessParameters
from lava.magma.runtime.message_infrastructure.multiprocessing import MultiProcessing
from scipy.sparse import csr_matrix

from loihi_mmfree.processes.scheduled import LeanModel
from loihi_mmfree.sim.lava.runtimes.channels import ChannelFromHost, ChannelToHost, InProcessInfrastructure
from loihi_mmfree.sim.lava.runtimes.stock_processes import end_thread


def give_own_copies(executable: Executable, infrastructure: InProcessInfrastructure) -> None:
    """Replace the parameters of all ProcessModels by copies, and channels that processes made by channels of ours.

    Our own ProcessModels share on purpose: packed weights, and the threads that compute with them.
    """
    processes = {id(process): process for process in executable.proc_builders}
    for process, builder in executable.proc_builders.items():
        if not issubclass(builder.proc_model, LeanModel):
            memo: dict[int, Any] = {**processes, **_own_channels(process, infrastructure)}
            _copy_parameters(builder, memo)


def _copy_parameters(builder: PyProcessBuilder, memo: dict[int, Any]) -> None:
    """Copy what the builder hands to the ProcessModel; `memo` says what of it has a copy already."""
    parameters = builder.proc_params
    if isinstance(parameters, ProcessParameters):
        found = parameters._parameters
        builder.proc_params = ProcessParameters({key: _copied(found[key], memo) for key in found})
    elif isinstance(parameters, dict):
        builder.proc_params = {key: _copied(value, memo) for key, value in parameters.items()}
    for name, variable in builder.vars.items():
        # All others are copied where the ProcessModel is built.
        if isinstance(variable.value, csr_matrix):
            builder.vars[name] = dataclasses.replace(variable, value=_copied(variable.value, memo))


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """A copy; or the value itself if there can be none, as of a lock or a file, which a fork shares as well."""
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # Whatever objects of others raise when they are copied.
        return value


def _own_channels(process: AbstractProcess, infrastructure: InProcessInfrastructure) -> dict[int, Any]:
    """Replace the channels of OS processes that a process has made to its own ProcessModel, as VarWire does.

    Returns
    -------
    dict of int to port
        By the id of an end that the ProcessModel gets, the end that takes its place.
    """
    given = {id(port): port for port in _ports(_values(process.proc_params))}
    replaced: dict[int, Any] = {}
    for name, ours in list(vars(process).items()):
        if not isinstance(ours, CspSendPort | CspRecvPort) or ours._shm is None:
            continue
        other = next((port for port in given.values() if port._req is ours._req and port is not ours), None)
        if other is None:
            continue
        kind = ChannelToHost if isinstance(ours, CspRecvPort) else ChannelFromHost
        channel = kind(infrastructure, ours.name, other.name, ours.shape, ours.d_type, ours.size)
        ends = channel.src_port, channel.dst_port
        host_end, model_end = ends if isinstance(ours, CspSendPort) else ends[::-1]
        direction = (
            f"{process.name} -> the host" if isinstance(ours, CspRecvPort) else f"the host -> {process.name}"
        )
        host_end.label = model_end.label = direction
        setattr(process, name, host_end)
        replaced[id(other)] = model_end
        end_thread(ours)
    if replaced:
        for infrastructure_of_process in vars(process).values():
            if isinstance(infrastructure_of_process, MultiProcessing):
                infrastructure_of_process.stop()
    return replaced


def _values(parameters: Any) -> list[Any]:
    found = parameters._parameters if isinstance(parameters, ProcessParameters) else parameters or {}
    return list(found.values())


def _ports(values: list[Any]) -> Iterator[CspSendPort | CspRecvPort]:
    return (value for value in values if isinstance(value, CspSendPort | CspRecvPort))

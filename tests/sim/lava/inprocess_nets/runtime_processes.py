"""Small Lava processes for the tests of the two runtimes. Lava reads every file of this folder."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.model import PyAsyncProcessModel, PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.async_protocol import AsyncProtocol
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.dense.process import Dense
from lava.proc.lif.process import LIF


class Counter(AbstractProcess):
    """Sends 1, 2, 3, ... to the host, in an array that it uses again; `last` is the last number."""

    def __init__(self, buffer_size: int = 64) -> None:
        super().__init__()
        self.out = OutPort(shape=(2,))
        self.out.flag_external_pipe(buffer_size)
        self.last = Var(shape=(2,), init=0)


@implements(proc=Counter, protocol=LoihiProtocol)
@requires(CPU)
class PyCounterModel(PyLoihiProcessModel):
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    last: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def run_spk(self) -> None:
        self.last += 1
        self.out.send(self.last)


class Adder(AbstractProcess):
    """Adds a bias to what comes from the host and sends it to the host; `s_out` goes to the network."""

    def __init__(self, buffer_size: int = 64) -> None:
        super().__init__()
        self.a_in = InPort(shape=(2,))
        self.a_in.flag_external_pipe(buffer_size)
        self.out = OutPort(shape=(2,))
        self.out.flag_external_pipe(buffer_size)
        self.bias = Var(shape=(2,), init=0)


@implements(proc=Adder, protocol=LoihiProtocol)
@requires(CPU)
class PyAdderModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    bias: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def run_spk(self) -> None:
        self.out.send(self.a_in.recv() + self.bias)


class Relay(AbstractProcess):
    """Sends on what it receives, in the same time step."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.a_in = InPort(shape=(1,))
        self.s_out = OutPort(shape=(1,))


@implements(proc=Relay, protocol=LoihiProtocol)
@requires(CPU)
class PyRelayModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def run_spk(self) -> None:
        self.s_out.send(self.a_in.recv())


class Culprit(AbstractProcess):
    """Misbehaves in time step 3, or (`build`, `die in build`) while it is built."""

    def __init__(self, how: str) -> None:
        super().__init__(name="culprit", how=how)
        self.s_out = OutPort(shape=(1,))


class UnsendableError(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} in {where}")


@implements(proc=Culprit, protocol=LoihiProtocol)
@requires(CPU)
class PyCulpritModel(PyLoihiProcessModel):
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.how = proc_params["how"]
        if self.how == "build":
            raise ValueError("cannot be built")
        if self.how == "die in build":
            os.kill(os.getpid(), signal.SIGKILL)

    def run_spk(self) -> None:
        if self.time_step == 3:
            self._misbehave()
        self.s_out.send(np.zeros(1))

    def _misbehave(self) -> None:
        if self.how == "raise":
            raise ValueError("three is too many")
        if self.how == "raise unsendable":
            raise UnsendableError("a fault", "here")
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "exit":
            os._exit(0)
        if self.how == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        if self.how == "stop":
            self._req_stop = True
        if self.how == "pause":
            self._req_pause = True
        if self.how == "wrong shape":
            self.s_out.send(np.zeros(2))
        if self.how == "sleep":
            time.sleep(3600)
        if self.how == "compute":
            end = time.monotonic() + 1.2
            while time.monotonic() < end:
                pass


class Pair(AbstractProcess):
    """A hierarchical process: a synapse and its neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.a_in = InPort(shape=(2,))
        self.s_out = OutPort(shape=(2,))
        self.v = Var(shape=(2,), init=0)


@implements(proc=Pair, protocol=LoihiProtocol)
class PairModel(AbstractSubProcessModel):
    def __init__(self, proc: Pair) -> None:
        self.synapse = Dense(weights=np.array([[30, 4], [0, -20]]))
        self.neurons = LIF(shape=(2,), du=4095, dv=100, vth=50)
        proc.a_in.connect(self.synapse.s_in)
        self.synapse.a_out.connect(self.neurons.a_in)
        self.neurons.s_out.connect(proc.s_out)
        proc.v.alias(self.neurons.v)


class FreeCounter(AbstractProcess):
    """Counts without time steps, until it is told to stop or pause."""

    def __init__(self) -> None:
        super().__init__()
        self.out = OutPort(shape=(1,))
        self.out.flag_external_pipe()
        self.count = Var(shape=(1,), init=0)


@implements(proc=FreeCounter, protocol=AsyncProtocol)
@requires(CPU)
class PyFreeCounterModel(PyAsyncProcessModel):
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    count: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def run_async(self) -> None:
        while not (self.check_for_stop_cmd() or self.check_for_pause_cmd()):
            self.count += 1
            if self.count <= 3:
                self.out.send(self.count)

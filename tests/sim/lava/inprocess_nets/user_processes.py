"""Lava processes as users write them: parameters that change, random numbers, handlers, several sync domains."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.model import PyAsyncProcessModel, PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.async_protocol import AsyncProtocol
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Learner(AbstractProcess):
    """Changes its parameters in every time step and sends the array and a random number from each source."""

    def __init__(self, rule: Any, array: np.ndarray, generator: np.random.Generator) -> None:
        super().__init__(rule=rule, array=array, again=array, generator=generator)
        self.out = OutPort(shape=(4,))
        self.out.flag_external_pipe()


@implements(proc=Learner, protocol=LoihiProtocol)
@requires(CPU)
class PyLearnerModel(PyLoihiProcessModel):
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    def run_spk(self) -> None:
        rule, array = self.proc_params["rule"], self.proc_params["array"]
        rule["rate"] += 1
        array += 1
        again = self.proc_params["again"][0]
        self.out.send(np.array([rule["rate"], array[0], again, self.proc_params["generator"].random()]))


class Drawer(AbstractProcess):
    """Sends numbers from `np.random`, the first of them drawn where it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.out = OutPort(shape=(2,))
        self.out.flag_external_pipe()


@implements(proc=Drawer, protocol=LoihiProtocol)
@requires(CPU)
class PyDrawerModel(PyLoihiProcessModel):
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.first = np.random.normal()

    def run_spk(self) -> None:
        self.out.send(np.array([self.first, np.random.normal()]))


class Closer(AbstractProcess):
    """Appends its name to a file when it is stopped, and can fail in its second time step."""

    def __init__(self, name: str, file: str, fails: bool = False) -> None:
        super().__init__(name=name, file=file, called=name, fails=fails)
        self.a_in = InPort(shape=(1,))
        self.s_out = OutPort(shape=(1,))


@implements(proc=Closer, protocol=LoihiProtocol)
@requires(CPU)
class PyCloserModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def run_spk(self) -> None:
        if self.proc_params["fails"] and self.time_step == 2:
            raise ValueError(f"{self.proc_params['called']} is the fault")
        self.s_out.send(np.zeros(1))
        self.a_in.recv()

    def _stop(self) -> None:
        with open(self.proc_params["file"], "a") as file:
            file.write(self.proc_params["called"] + "\n")
        super()._stop()


class Layout(AbstractProcess):
    """Sends a matrix in Fortran order, read-only at first, and writes to it afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.out = OutPort(shape=(2, 3))
        self.out.flag_external_pipe()


@implements(proc=Layout, protocol=LoihiProtocol)
@requires(CPU)
class PyLayoutModel(PyLoihiProcessModel):
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def run_spk(self) -> None:
        matrix = np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3))
        matrix.flags.writeable = False
        self.out.send(matrix)
        matrix.flags.writeable = True
        matrix[:] = -1


class Ticker(AbstractProcess):
    """Counts time steps, passes on what it receives, and asks for a pause in one of them."""

    def __init__(self, name: str, pause_in: int = 0) -> None:
        super().__init__(name=name, pause_in=pause_in)
        self.a_in = InPort(shape=(1,))
        self.s_out = OutPort(shape=(1,))
        self.ticks = Var(shape=(1,), init=0)


@implements(proc=Ticker, protocol=LoihiProtocol)
@requires(CPU)
class PyTickerModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    ticks: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def run_spk(self) -> None:
        self.ticks += 1
        self._req_pause = self.ticks[0] == self.proc_params["pause_in"]
        self.s_out.send(self.a_in.recv())


class Drain(AbstractProcess):
    """Takes what comes without time steps, each time that it has looked so often, until it is told to end."""

    def __init__(self, looks: int = 1) -> None:
        super().__init__(name="drain", looks=looks)
        self.a_in = InPort(shape=(1,))
        self.taken = Var(shape=(1,), init=0)


@implements(proc=Drain, protocol=AsyncProtocol)
@requires(CPU)
class PyDrainModel(PyAsyncProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    taken: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def run_async(self) -> None:
        looks = 0
        while not (self.check_for_stop_cmd() or self.check_for_pause_cmd()):
            looks += 1
            if self.a_in.probe() and looks % self.proc_params["looks"] == 0:
                self.a_in.recv()
                self.taken += 1

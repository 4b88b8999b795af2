"""A group of neurons that run one neuron program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from loihi_mmfree.fixedpoint.interpreter import Machine, run_program
from loihi_mmfree.fixedpoint.program import Program
from loihi_mmfree.processes.scheduled import ScheduledModel, ScheduledProcess


class NeuronGroup(ScheduledProcess):
    """Neurons that run a program once for every token, in the time step in which the token arrives.

    It has an InPort for each input of the program, an OutPort for each output and a Var for each state, under
    the program's own names.

    Parameters
    ----------
    name : str
    size : int
        Number of neurons.
    program : Program
    constants : mapping name -> int64 array [size] or [1]
    tables : mapping name -> int64 array
    offset, depth : int
        As for ScheduledProcess.
    strict : bool
        Check every register against its declared width and count overflows.

    Attributes
    ----------
    counters : Var [2]
        Values clamped where the program saturates, and values that did not fit their register.
    """

    def __init__(
        self,
        *,
        name: str,
        size: int,
        program: Program,
        constants: Mapping[str, np.ndarray],
        tables: Mapping[str, np.ndarray],
        offset: int,
        depth: int,
        strict: bool,
    ) -> None:
        super().__init__(
            name=name,
            inputs={port.name: size for port in program.inputs},
            outputs={port.name: size for port in program.outputs},
            states={state.name: size for state in program.states},
            offset=offset,
            depth=depth,
            size=size,
            program=program,
            constants=constants,
            tables=tables,
            strict=strict,
        )
        self.counters = Var(shape=(2,), init=0)


@implements(proc=NeuronGroup, protocol=LoihiProtocol)
@requires(CPU)
class NeuronGroupModel(ScheduledModel):
    """Interprets the program on one time step."""

    counters: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._program: Program = proc_params["program"]
        self._machine = Machine(proc_params["constants"], proc_params["tables"], strict=proc_params["strict"])

    def compute(self, received: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run the program."""
        inputs = {port: values[np.newaxis].astype(np.int64) for port, values in received.items()}
        states = {state.name: getattr(self, state.name) for state in self._program.states}
        sent = run_program(self._program, self._machine, inputs, states)
        for state, values in states.items():
            getattr(self, state)[:] = values
        counted = self._machine.counters
        self.counters[:] = counted.saturations, counted.overflows
        size = self.proc_params["size"]
        return {port: np.broadcast_to(values, (1, size))[0] for port, values in sent.items()}

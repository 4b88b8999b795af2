"""A group of neurons that run one neuron program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

TALLY = "tally"
"""Name of the port for what a group counts; no output of a program has it."""


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
    message_bits : int
        Width of a message of the chip.
    strict : bool
        Check every register against its declared width and count overflows.
    executor : callable, optional
        Makes what runs the program on one token (as `ir.part.PartExecutor` does, with messages in the order
        of the program's inputs and outputs); without it, the program is interpreted over NumPy.
    tally : bool
        Whether there is an OutPort [2], named `TALLY`, for what the group counts in each time step.

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
        message_bits: int,
        strict: bool,
        executor: Callable[[], Any] | None = None,
        tally: bool = False,
    ) -> None:
        super().__init__(
            name=name,
            inputs={port.name: size for port in program.inputs},
            outputs={port.name: size for port in program.outputs} | ({TALLY: 2} if tally else {}),
            states={state.name: size for state in program.states},
            offset=offset,
            depth=depth,
            size=size,
            program=program,
            constants=constants,
            tables=tables,
            message_bits=message_bits,
            strict=strict,
            executor=executor,
        )
        self.counters = Var(shape=(2,), init=0)


@implements(proc=NeuronGroup, protocol=LoihiProtocol)
@requires(CPU)
class NeuronGroupModel(ScheduledModel):
    """Runs the program on one time step."""

    counters: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._program: Program = proc_params["program"]
        self._machine = Machine(
            proc_params["constants"], proc_params["tables"], proc_params["strict"], proc_params["size"]
        )
        make = proc_params["executor"]
        self._executor: Any = make() if make is not None else None
        self._tallies = TALLY in proc_params["outputs"]

    def compute(self, received: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run the program."""
        if self._executor is None:
            sent, counted = self._interpret(received), self._machine.counters
        else:
            sent, counted = self._execute(received), self._executor.counters
        before = self.counters.copy()
        self.counters[:] = counted.saturations, counted.overflows
        if self._tallies:
            sent[TALLY] = (self.counters - before).astype(np.int32)
        return sent

    def _execute(self, received: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        program, executor = self._program, self._executor
        (variables,) = executor.variables.values() or ({},)
        for state, values in variables.items():
            # After the first token, Var and executor share an array, which the host writes in place.
            if getattr(self, state) is not values:
                values[:] = getattr(self, state)
                setattr(self, state, values)
        sent = executor.step([received[port.name] for port in program.inputs])
        return {port.name: values for port, values in zip(program.outputs, sent, strict=True)}

    def _interpret(self, received: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        inputs = {port: values[np.newaxis].astype(np.int64) for port, values in received.items()}
        states = {state.name: getattr(self, state.name) for state in self._program.states}
        sent = run_program(self._program, self._machine, inputs, states)
        for state, values in states.items():
            getattr(self, state)[:] = values
        size = self.proc_params["size"]
        return {port: np.broadcast_to(values, (1, size))[0] for port, values in sent.items()}

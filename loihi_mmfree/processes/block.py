"""Any part of a network as one process, token-exact and without time steps inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from loihi_mmfree.ir.part import Part, PartExecutor
from loihi_mmfree.processes.scheduled import ScheduledModel, ScheduledProcess


class Block(ScheduledProcess):
    """Nodes of a graph that work on a whole token in one time step: for speed, not for a chip.

    It has a port for every message that comes in or goes out, named `node:port`, and a Var for every state,
    named `node.state`.

    Parameters
    ----------
    name : str
    part : Part
    strict : bool
        Check every register and accumulator against its declared width and count overflows.
    executor : callable
        Makes what runs the nodes; the default is the specification over NumPy.
    together : int
        As for ScheduledProcess.

    Attributes
    ----------
    counters : Var [2]
        Values clamped where a program saturates, and values that did not fit.
    """

    def __init__(
        self,
        *,
        name: str,
        part: Part,
        strict: bool,
        executor: Callable[[Part, bool, int], Any] = PartExecutor,
        together: int = 1,
    ) -> None:
        super().__init__(
            name=name,
            inputs={str(source): part.size_of(source) for source in part.inputs},
            outputs={str(source): part.size_of(source) for source in part.results},
            states={f"{node.name}.{state}": size for node in part.nodes for state, size in node.states.items()},
            offset=0,
            depth=0,
            together=together,
            message_bits=part.graph.chip.message_bits.value,
            part=part,
            strict=strict,
            executor=executor,
        )
        self.counters = Var(shape=(2,), init=0)


@implements(proc=Block, protocol=LoihiProtocol)
@requires(CPU)
class BlockModel(ScheduledModel):
    """Runs its executor on the tokens of a message."""

    counters: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        part: Part = proc_params["part"]
        self._executor = proc_params["executor"](part, proc_params["strict"], proc_params["together"])
        self._inputs = [str(source) for source in part.inputs]
        self._results = [str(source) for source in part.results]
        self._states = [
            (f"{name}.{state}", variables, state)
            for name, variables in self._executor.variables.items()
            for state in variables
        ]

    def compute(self, received: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run the nodes in order."""
        for name, variables, state in self._states:
            # After the first token, Var and executor share an array, which the host writes in place.
            if getattr(self, name) is not variables[state]:
                variables[state][:] = getattr(self, name)
        messages = [received[name] for name in self._inputs]
        runs = self._executor
        sent = runs.step(messages) if self.carried == 1 else runs.run(messages, self.carried)
        for name, variables, state in self._states:
            setattr(self, name, variables[state])
        counted = self._executor.counters
        self.counters[:] = counted.saturations, counted.overflows
        return dict(zip(self._results, sent, strict=True))

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

from loihi_mmfree.compiler.executor import Executor
from loihi_mmfree.compiler.graph import Graph, Node, Source
from loihi_mmfree.compiler.nodes import NeuronGroup
from loihi_mmfree.processes.scheduled import ScheduledModel, ScheduledProcess


class Block(ScheduledProcess):
    """Nodes of a graph that work on a whole token in one time step: for speed, not for a chip.

    It has a port for every message that comes in or goes out, named `node:port`, and a Var for every state,
    named `node.state`.

    Parameters
    ----------
    name : str
    graph : Graph
        Lowered.
    nodes : tuple of Node
        The part of the graph, in the graph's order.
    strict : bool
        Check every register and accumulator against its declared width and count overflows.
    executor : callable
        Makes what evaluates the nodes; the default is the specification over NumPy.

    Attributes
    ----------
    counters : Var [2]
        Values clamped where a program saturates, and values that did not fit.
    """

    def __init__(
        self,
        *,
        name: str,
        graph: Graph,
        nodes: tuple[Node, ...],
        strict: bool,
        executor: Callable[[Graph, tuple[Node, ...], bool], Any] = Executor,
    ) -> None:
        own = {node.name for node in nodes}
        read = dict.fromkeys(source for node in nodes for source in node.inputs if source.node not in own)
        sent = [
            source
            for source, readers in graph.consumers.items()
            if source.node in own and any(reader.name not in own for reader in readers)
        ]
        super().__init__(
            name=name,
            inputs={str(source): size_of(graph, source) for source in read},
            outputs={str(source): size_of(graph, source) for source in sent},
            states={
                f"{node.name}.{state.name}": node.size
                for node in nodes
                if isinstance(node, NeuronGroup)
                for state in node.program.states
            },
            offset=0,
            depth=0,
            graph=graph,
            nodes=nodes,
            sources=tuple(read),
            results=tuple(sent),
            strict=strict,
            executor=executor,
        )
        self.counters = Var(shape=(2,), init=0)


def size_of(graph: Graph, source: Source) -> int:
    """Return the number of elements of a message."""
    return graph.by_name[source.node].outputs[source.port]


@implements(proc=Block, protocol=LoihiProtocol)
@requires(CPU)
class BlockModel(ScheduledModel):
    """Runs its executor on one token."""

    counters: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        make = proc_params["executor"]
        self._executor = make(proc_params["graph"], proc_params["nodes"], proc_params["strict"])
        self._states = [
            (f"{name}.{state}", variables, state)
            for name, variables in self._executor.variables.items()
            for state in variables
        ]

    def compute(self, received: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run the nodes in order."""
        inputs = {
            source: received[str(source)][np.newaxis].astype(np.int64) for source in self.proc_params["sources"]
        }
        for name, variables, state in self._states:
            variables[state][:] = getattr(self, name)
        sent = self._executor.run(inputs, self.proc_params["results"])
        for name, variables, state in self._states:
            getattr(self, name)[:] = variables[state]
        counted = self._executor.counters
        self.counters[:] = counted.saturations, counted.overflows
        return {str(source): values[0] for source, values in sent.items()}

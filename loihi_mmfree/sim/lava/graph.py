"""From a lowered graph to connected Lava processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lava.magma.core.model.model import AbstractProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from numpy.typing import NDArray

from loihi_mmfree.errors import UsageError
from loihi_mmfree.ir import nodes, synapses
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.part import Part, PartExecutor
from loihi_mmfree.ir.schedule import depth as depth_of
from loihi_mmfree.ir.schedule import offsets
from loihi_mmfree.processes.block import Block, BlockModel
from loihi_mmfree.processes.host import (
    LogitsSink,
    LogitsSinkModel,
    PromptSinkModel,
    PromptSourceModel,
    TokenSource,
    TokenSourceModel,
)
from loihi_mmfree.processes.neuron_group import TALLY, NeuronGroup, NeuronGroupModel
from loihi_mmfree.processes.scheduled import TOGETHER, ScheduledProcess, model_with_ports, port_shapes
from loihi_mmfree.processes.synapse import Delay, TernaryDenseModel, ternary_dense
from loihi_mmfree.sim.engine.part_executor import FastExecutors

BLOCK_NAMES: Mapping[str, Callable[[str], str]] = {
    "block": nodes.block_of,
    "network": lambda name: nodes.HOST_BLOCK if nodes.block_of(name) == nodes.HOST_BLOCK else "network",
}
"""Coarse granularity -> which process a node belongs to."""


@dataclass
class LavaGraph:
    """Connected Lava processes.

    Parameters
    ----------
    processes : dict name -> AbstractProcess
        By node at operator granularity, else by block; the host's ends among them.
    ports : dict Source -> OutPort
        Every message that travels between processes, and what neuron groups send of what they count.
    sent : dict Source -> int
        The time step, counted from a token's entry, in which its message is sent.
    states : dict (node, state) -> Var
    depth : int
        Time steps from a token's entry until its logits leave.
    executors : FastExecutors, optional
        What the processes compute with, if not NumPy.
    """

    depth: int
    processes: dict[str, AbstractProcess] = field(default_factory=dict)
    ports: dict[Source, OutPort] = field(default_factory=dict)
    sent: dict[Source, int] = field(default_factory=dict)
    states: dict[tuple[str, str], Var] = field(default_factory=dict)
    executors: FastExecutors | None = None

    def close(self) -> None:
        """End the threads that the processes compute with."""
        if self.executors is not None:
            self.executors.close()

    @property
    def scheduled(self) -> list[ScheduledProcess]:
        """The processes that have to know which time steps carry a token."""
        return [each for each in self.processes.values() if isinstance(each, ScheduledProcess)]

    @property
    def source(self) -> TokenSource:
        """Where tokens are written in."""
        return next(each for each in self.processes.values() if isinstance(each, TokenSource))

    @property
    def sink(self) -> LogitsSink:
        """Where logits are read."""
        return next(each for each in self.processes.values() if isinstance(each, LogitsSink))


def build(
    graph: Graph,
    granularity: str,
    strict: bool,
    kernels: str = "compiled",
    tally: bool = False,
    together: int = 1,
) -> LavaGraph:
    """Make and connect the processes of a lowered graph.

    Parameters
    ----------
    graph : Graph
        Lowered, with balanced delays.
    granularity : {"operator", "block", "network"}
        `operator`: every node is a process, and time steps are those of the chip. `block`, `network`: a block,
        or everything between the host's ends, is a process, and a token passes all of them in one time step.
    strict : bool
        Check every register against its declared width and count overflows.
    kernels : {"compiled", "numpy"}
        What processes compute with.
    tally : bool
        At operator granularity, give neuron groups a port for what they count.
    together : int
        At network granularity, most tokens that a message may carry.

    Raises
    ------
    UsageError
        Unknown granularity.
    ValueError
        Inputs of a node arrive in different time steps.
    """
    if granularity != "operator" and granularity not in BLOCK_NAMES:
        known = ", ".join(("operator", *BLOCK_NAMES))
        raise UsageError(f"granularity: unknown {granularity!r}; known: {known}")
    executors = FastExecutors() if kernels == "compiled" else None
    with _root_logger_unchanged():
        if granularity == "operator":
            return _operators(graph, strict, executors, tally)
        together = together if granularity == "network" else 1
        return _blocks(graph, BLOCK_NAMES[granularity], strict, executors, together)


_HOST_ENDS: Mapping[tuple[type[AbstractProcess], bool], type[AbstractProcessModel]] = {
    (TokenSource, False): TokenSourceModel,
    (TokenSource, True): PromptSourceModel,
    (LogitsSink, False): LogitsSinkModel,
    (LogitsSink, True): PromptSinkModel,
}
"""The model of a host's end, and of one where tokens may share a message."""


class SimulationConfig(Loihi2SimCfg):
    """Lava's configuration for simulating Loihi 2, with our models for Dense and for processes of own ports."""

    def __init__(self) -> None:
        super().__init__(select_tag="fixed_pt", exception_proc_model_map={Dense: TernaryDenseModel})

    def select(
        self, process: AbstractProcess, proc_models: list[type[AbstractProcessModel]]
    ) -> type[AbstractProcessModel]:
        """Choose the ProcessModel of a process."""
        parameters = process.proc_params
        if isinstance(process, (TokenSource, LogitsSink)):
            return _HOST_ENDS[type(process), parameters["together"] > 1]
        own_ports = {NeuronGroup: NeuronGroupModel, Block: BlockModel}
        if type(process) not in own_ports:
            return super().select(process, proc_models)
        inputs, outputs = (
            tuple(port_shapes(dict.fromkeys(parameters[kind], 0), parameters["together"]))
            for kind in ("inputs", "outputs")
        )
        ports = inputs, outputs, parameters["states"]
        return model_with_ports(own_ports[type(process)], *ports, parameters["message_bits"])


def _operators(graph: Graph, strict: bool, executors: FastExecutors | None, tally: bool) -> LavaGraph:
    built = LavaGraph(depth_of(graph), executors=executors)
    received = offsets(graph)
    for node in graph:
        process = _operator(graph, node, received[node.name], built.depth, strict, executors, tally)
        built.processes[node.name] = process
        kind = _PROCESSES[type(node)]
        for source, port in zip(node.inputs, kind.in_ports(node, process), strict=True):
            built.ports[source].connect(port)
        for name in [*node.outputs, TALLY] if tally and kind.tallies else node.outputs:
            source = node.out(name)
            built.ports[source] = kind.out_port(process, name)
            built.sent[source] = received[node.name] + node.latency
        for state in node.states:
            built.states[node.name, state] = getattr(process, state)
    return built


@dataclass(frozen=True)
class _Setting:
    """What the process of a node has to know beside the node."""

    graph: Graph
    offset: int
    depth: int
    strict: bool
    executor: Callable[[], Any] | None = None
    tally: bool = False
    together: int = 1

    @property
    def message_bits(self) -> int:
        """Width of a message of the chip."""
        return self.graph.chip.message_bits.value


@dataclass(frozen=True)
class _Kind:
    """What a kind of node becomes.

    Parameters
    ----------
    make : callable
        Makes the process.
    in_ports : callable
        Its ports, in the order of the node's inputs.
    out_port : callable
        Its port of the name that the node gives an output.
    tallies : bool
        Whether it can have a port for what it counts.
    """

    make: Callable[[Any, _Setting], AbstractProcess]
    in_ports: Callable[[Any, Any], list[InPort]]
    out_port: Callable[[Any, str], OutPort] = getattr
    tallies: bool = False


def _synapse(make: Callable[[Any, _Setting], AbstractProcess]) -> _Kind:
    return _Kind(make, lambda node, process: [process.s_in], lambda process, name: process.a_out)


def _dense(node: Node, codes: NDArray[np.int8], setting: _Setting, packed: bool = True) -> Dense:
    return ternary_dense(node.name, codes, setting.message_bits, setting.executor if packed else None)


def _token_source(node: nodes.TokenIn, setting: _Setting) -> TokenSource:
    depth, together = setting.depth, setting.together
    return TokenSource(name=node.name, size=node.size, depth=depth, buffer_size=depth + 1, together=together)


def _logits_sink(node: nodes.LogitsOut, setting: _Setting) -> LogitsSink:
    return LogitsSink(
        name=node.name,
        size=node.size,
        offset=setting.offset,
        depth=setting.depth,
        buffer_size=1,
        together=setting.together,
    )


def _neuron_group(node: nodes.NeuronGroup, setting: _Setting) -> NeuronGroup:
    constants, tables = node.parameters(setting.graph.tensors)
    return NeuronGroup(
        name=node.name,
        size=node.size,
        program=node.program,
        constants=constants,
        tables=tables,
        offset=setting.offset,
        depth=setting.depth,
        message_bits=setting.message_bits,
        strict=setting.strict,
        executor=setting.executor,
        tally=setting.tally,
    )


_PROCESSES: Mapping[type[Node], _Kind] = {
    nodes.TokenIn: _Kind(_token_source, lambda node, process: []),
    nodes.LogitsOut: _Kind(_logits_sink, lambda node, process: [process.accumulators]),
    synapses.TernarySynapse: _synapse(
        lambda node, setting: _dense(node, node.weights(setting.graph.tensors), setting)
    ),
    synapses.SumSynapse: _synapse(
        lambda node, setting: _dense(node, np.ones((1, node.columns), dtype=np.int8), setting)
    ),
    synapses.Broadcast: _synapse(
        lambda node, setting: _dense(node, np.ones((node.rows, 1), dtype=np.int8), setting, packed=False)
    ),
    synapses.Delay: _synapse(lambda node, setting: Delay(name=node.name, size=node.size, steps=node.steps)),
    nodes.NeuronGroup: _Kind(
        _neuron_group,
        lambda node, process: [getattr(process, port.name) for port in node.program.inputs],
        tallies=True,
    ),
}
"""The Lava process of each kind of node."""


def _operator(
    graph: Graph,
    node: Node,
    offset: int,
    depth: int,
    strict: bool,
    executors: FastExecutors | None = None,
    tally: bool = False,
    together: int = 1,
) -> AbstractProcess:
    if type(node) not in _PROCESSES:
        raise TypeError(f"{node.name}: no Lava process is known for a {type(node).__name__}")
    executor = executors.of_node(graph, node, strict) if executors is not None else None
    return _PROCESSES[type(node)].make(node, _Setting(graph, offset, depth, strict, executor, tally, together))


def _blocks(
    graph: Graph,
    block_of: Callable[[str], str],
    strict: bool,
    executors: FastExecutors | None,
    together: int,
) -> LavaGraph:
    built = LavaGraph(depth=0, executors=executors)
    executor = executors or PartExecutor
    parts: dict[str, list[Node]] = {}
    for node in graph:
        parts.setdefault(block_of(node.name), []).append(node)
    for node in parts.pop(nodes.HOST_BLOCK):
        built.processes[node.name] = _operator(graph, node, 0, 0, strict, together=together)
    built.ports[Source(built.source.name)] = built.source.out
    for name, group in parts.items():
        part = Part.of(graph, group)
        block = Block(name=name, part=part, strict=strict, executor=executor, together=together)
        built.processes[name] = block
        for read in part.inputs:
            built.ports[read].connect(getattr(block, str(read)))
            if together > 1:
                built.source.out_together.connect(getattr(block, str(read) + TOGETHER))
        for sent in part.results:
            built.ports[sent] = getattr(block, str(sent))
        for node in group:
            for state in node.states:
                built.states[node.name, state] = getattr(block, f"{node.name}.{state}")
    (logits,) = graph.by_name[built.sink.name].inputs
    built.ports[logits].connect(built.sink.accumulators)
    if together > 1:
        getattr(block, str(logits) + TOGETHER).connect(built.sink.accumulators_together)
    built.sent = dict.fromkeys(built.ports, 0)
    return built


@contextmanager
def _root_logger_unchanged() -> Iterator[None]:
    """Within this block, take away again what each new Lava process adds to the root logger: a handler."""
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        yield
    finally:
        root.handlers[:] = before

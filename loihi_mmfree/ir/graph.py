"""The dataflow graph: frozen nodes in topological order, with the integer tensors they refer to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.ir.contract import Bounds, Evaluator, NeuronMemory
from loihi_mmfree.loihi2.hardware import LOIHI2, ChipSpec

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """Where an input comes from: an output port of an earlier node."""

    node: str
    port: str = "out"

    def __str__(self) -> str:
        return f"{self.node}:{self.port}"


@dataclass(frozen=True)
class Node:
    """A vertex of the graph. A kind of node is one class, which answers what is asked of it.

    Whoever runs, proves, places, counts or prices a graph asks its nodes; what a kind does not answer is refused
    by its name.

    Parameters
    ----------
    name : str
        Unique; dotted like the checkpoint's tensors, so that a user recognises it.
    inputs : tuple of Source
        In the order the node's own definition gives.
    """

    name: str
    inputs: tuple[Source, ...]

    @property
    def outputs(self) -> Mapping[str, int]:
        """Port -> number of elements."""
        raise self._undeclared("outputs")

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """Number of elements each input must have."""
        raise self._undeclared("inputs")

    @property
    def kind(self) -> str:
        """What it is, for people."""
        return type(self).__name__

    @property
    def shape(self) -> str:
        """How large it is, for people."""
        return str(next(iter(self.outputs.values()), self.input_sizes[0] if self.input_sizes else 0))

    @property
    def latency(self) -> int:
        """Time steps from what enters to what leaves."""
        return 0

    @property
    def host_end(self) -> bool:
        """Whether this is an end of the network, where the host writes or reads."""
        return False

    @property
    def neurons(self) -> int:
        """Neurons that are to be placed on cores."""
        return 0

    @property
    def instructions(self) -> int:
        """Instructions that a neuron executes in a time step."""
        return 0

    @property
    def sends(self) -> Mapping[str, int]:
        """Port -> number of elements, where these are messages of neurons: a zero is not sent."""
        return {}

    @property
    def states(self) -> Mapping[str, int]:
        """State variable -> number of elements kept from token to token."""
        return {}

    @property
    def counts(self) -> bool:
        """Whether it can count a saturation or an overflow."""
        return False

    def bounds(self, tensors: Tensors, inputs: Sequence[Interval], chip: ChipSpec) -> Bounds:
        """Return the ranges of what it sends, given those of what it reads, and the limits it may exceed."""
        raise self._undeclared("bounds")

    def evaluator(self, tensors: Tensors, chip: ChipSpec, strict: bool) -> Evaluator:
        """Return what evaluates it over NumPy; if strict, with every register and accumulator checked."""
        raise self._undeclared("evaluation")

    def neuron_memory(self, tensors: Tensors, chip: ChipSpec) -> NeuronMemory:
        """Return what its neurons take up on a core, beside synapses and accumulators."""
        raise self._undeclared("memory of neurons")

    def synapses(self, tensors: Tensors) -> int:
        """Return the number of synapses that are not zero."""
        return 0

    def check_tensors(self, tensors: Tensors) -> None:
        """Raise ValueError unless the tensors it refers to are there, of its types and shapes."""

    def _undeclared(self, what: str) -> TypeError:
        return TypeError(f"{self.name}: {type(self).__name__} declares no {what}")

    def out(self, port: str = "out") -> Source:
        """Return a reference to one of this node's outputs."""
        return Source(self.name, port)


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, and tensors by name.

    Parameters
    ----------
    nodes : tuple of Node
        A node comes after everything it reads.
    tensors : mapping name -> array
        Packed weights (uint8), constants and tables (int32), the embedding (int16 or int32).
    chip : ChipSpec
        The system it is lowered for: what is proved and counted is held against its limits.
    """

    nodes: tuple[Node, ...]
    tensors: Tensors
    chip: ChipSpec = field(default=LOIHI2, repr=False)

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Node of each name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def consumers(self) -> Mapping[Source, tuple[Node, ...]]:
        """The nodes that read each output port."""
        found: dict[Source, list[Node]] = {}
        for node in self.nodes:
            for source in dict.fromkeys(node.inputs):
                found.setdefault(source, []).append(node)
        return {source: tuple(nodes) for source, nodes in found.items()}

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def readers(self, node: Node) -> tuple[Node, ...]:
        """Return the nodes that read any output of `node`, in order."""
        found = (reader for port in node.outputs for reader in self.consumers.get(node.out(port), ()))
        return tuple(dict.fromkeys(found))

    def with_nodes(self, nodes: Iterable[Node]) -> Graph:
        """Return a graph of other nodes over the same tensors."""
        return replace(self, nodes=tuple(nodes))

    def check(self) -> None:
        """Verify that names are unique, order is topological, and sizes agree.

        Raises
        ------
        ValueError
            With every fault found, one a line.
        """
        faults: list[str] = []
        seen: dict[str, Node] = {}
        for node in self.nodes:
            if node.name in seen:
                faults.append(f"{node.name}: the name is used twice")
            if len(node.inputs) != len(node.input_sizes):
                faults.append(f"{node.name}: {len(node.inputs)} inputs, expected {len(node.input_sizes)}")
            for source, size in zip(node.inputs, node.input_sizes, strict=False):
                producer = seen.get(source.node)
                if producer is None or source.port not in producer.outputs:
                    faults.append(f"{node.name}: reads {source}, which no earlier node sends")
                elif producer.outputs[source.port] != size:
                    found = producer.outputs[source.port]
                    faults.append(f"{node.name}: reads {size} elements of {source}, which sends {found}")
            seen[node.name] = node
        if faults:
            raise ValueError("the graph is not well formed:\n" + "\n".join(faults))


def required_tensor(tensors: Tensors, node: Node, key: str, *types: str) -> np.ndarray:
    """Return a tensor that a node refers to; raise ValueError unless it is there and of one of some types."""
    tensor = tensors.get(key)
    if tensor is None or tensor.dtype.name not in types:
        found = "none" if tensor is None else tensor.dtype.name
        raise ValueError(f"{node.name}: tensor {key} must be of type {' or '.join(types)}, found {found}")
    return tensor

"""The dataflow graph: frozen nodes in topological order, with the integer tensors they refer to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Source:
    """Where an input comes from: an output port of an earlier node."""

    node: str
    port: str = "out"

    def __str__(self) -> str:
        return f"{self.node}:{self.port}"


@dataclass(frozen=True)
class Node:
    """A vertex of the graph. Subclasses add what they compute.

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
        raise TypeError(f"{type(self).__name__} declares no outputs")

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """Number of elements each input must have."""
        raise TypeError(f"{type(self).__name__} declares no inputs")

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
    """

    nodes: tuple[Node, ...]
    tensors: Mapping[str, np.ndarray]

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

"""Lowered graphs as JSON-ready data, and back with everything checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loihi_mmfree.fixedpoint.program import Program
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.ir import nodes, synapses
from loihi_mmfree.ir.graph import Graph, Node, Source

NODE_TYPES: Mapping[str, type[Node]] = {
    each.__name__: each
    for each in (
        nodes.TokenIn,
        nodes.NeuronGroup,
        synapses.TernarySynapse,
        synapses.SumSynapse,
        synapses.Broadcast,
        synapses.Delay,
        nodes.LogitsOut,
    )
}


def graph_to_data(graph: Graph) -> list[dict[str, Any]]:
    """Return the nodes as JSON-ready data, in order."""
    return [_node_to_data(node) for node in graph]


def graph_from_data(data: Any, tensors: Mapping[str, np.ndarray]) -> Graph:
    """Rebuild a graph and check that it is well formed.

    Raises
    ------
    ValueError
        The data is not a lowered graph.
    """
    try:
        graph = Graph(tuple(_node_from_data(each) for each in data), tensors)
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"not a graph: {error!r}") from error
    graph.check()
    return graph


@dataclass(frozen=True)
class _Codec:
    """How the fields of one type are written and read."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


_CODECS: Mapping[str, _Codec] = {
    "tuple[Source, ...]": _Codec(
        lambda value: [[each.node, each.port] for each in value],
        lambda data: tuple(Source(str(node), str(port)) for node, port in data),
    ),
    "Role": _Codec(lambda value: value.value, nodes.Role),
    "Program": _Codec(Program.to_dict, Program.from_dict),
    "tuple[tuple[str, QFormat], ...]": _Codec(
        lambda value: [[port, *each.to_list()] for port, each in value],
        lambda data: tuple((str(port), QFormat.from_list(numbers)) for port, *numbers in data),
    ),
    "tuple[tuple[str, str], ...]": _Codec(
        lambda value: [list(pair) for pair in value],
        lambda data: tuple((str(name), str(key)) for name, key in data),
    ),
}
"""By the type that a field declares; numbers and texts are written as they are."""


def _node_to_data(node: Node) -> dict[str, Any]:
    data: dict[str, Any] = {"type": type(node).__name__}
    for field in dataclasses.fields(node):
        value, codec = getattr(node, field.name), _CODECS.get(str(field.type))
        data[field.name] = codec.write(value) if codec else value
    return data


def _node_from_data(data: Mapping[str, Any]) -> Node:
    node_type = NODE_TYPES.get(data["type"])
    if node_type is None:
        raise ValueError(f"not a graph: {data['type']!r} is no kind of node; known: {', '.join(NODE_TYPES)}")
    values: dict[str, Any] = {}
    for field in dataclasses.fields(node_type):
        value, codec = data[field.name], _CODECS.get(str(field.type))
        try:
            values[field.name] = codec.read(value) if codec else _scalar(field, value)
        except ValueError as error:
            raise ValueError(f"{data['name']}: {error}") from error
    return node_type(**values)


def _scalar(field: dataclasses.Field[Any], value: Any) -> Any:
    """A field's value, if it is of the type that the field declares."""
    expected = {"int": int, "float": float, "str": str}[str(field.type)]
    if isinstance(value, bool) or not isinstance(value, expected):
        raise TypeError(f"{field.name}: {value!r} is not of type {field.type}")
    if isinstance(value, int) and value < (0 if field.name == "first_column" else 1):
        raise ValueError(f"not a graph: {field.name} is {value}")
    return value

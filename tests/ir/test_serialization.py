"""Lowered graphs as JSON: they come back as they were, and a stranger's are checked."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.ir.serialize import graph_from_data, graph_to_data
from loihi_mmfree.net.artifact import Net

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_infinity=False) | st.text(max_size=4)
json_values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def data(lowered: Any) -> list[dict[str, Any]]:
    """The description of a lowered network. Read it only."""
    return graph_to_data(lowered.graph)


def first(data: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(node for node in data if node["type"] == kind)


def test_a_graph_comes_back_from_json_as_it_was(lowered: Any, data: list[dict[str, Any]]) -> None:
    found = graph_from_data(json.loads(json.dumps(data)), lowered.graph.tensors)
    assert found.nodes == lowered.graph.nodes
    assert found.tensors is lowered.graph.tensors


def test_a_graph_read_back_describes_itself_as_before(tiny_net: Net) -> None:
    once = json.dumps(graph_to_data(tiny_net.graph))
    assert json.dumps(graph_to_data(graph_from_data(json.loads(once), {}))) == once


def test_every_node_says_its_type_and_name(lowered: Any, data: list[dict[str, Any]]) -> None:
    assert [(node["type"], node["name"]) for node in data] == [
        (type(node).__name__, node.name) for node in lowered.graph
    ]


@settings(max_examples=100, deadline=None)
@given(garbage=json_values)
def test_garbage_raises_value_error_or_is_an_empty_graph(garbage: Any) -> None:
    with contextlib.suppress(ValueError):
        assert graph_from_data(garbage, {}).nodes == ()


@settings(max_examples=60, deadline=None)
@given(garbage=json_values, choice=st.data())
def test_one_damaged_field_raises_value_error_or_is_a_graph(
    garbage: Any, choice: st.DataObject, data: list[dict[str, Any]]
) -> None:
    damaged = list(data)
    position = choice.draw(st.integers(0, len(data) - 1))
    damaged[position] = dict(data[position])
    damaged[position][choice.draw(st.sampled_from(sorted(data[position])))] = garbage
    try:
        found = graph_from_data(damaged, {})
    except ValueError:
        return
    assert graph_from_data(graph_to_data(found), {}).nodes == found.nodes


@settings(max_examples=40, deadline=None)
@given(choice=st.data())
def test_a_missing_field_raises_value_error(choice: st.DataObject, data: list[dict[str, Any]]) -> None:
    damaged = list(data)
    position = choice.draw(st.integers(0, len(data) - 1))
    missing = choice.draw(st.sampled_from(sorted(data[position])))
    damaged[position] = {name: value for name, value in data[position].items() if name != missing}
    with pytest.raises(ValueError, match=f"not a graph: KeyError\\('{missing}'\\)"):
        graph_from_data(damaged, {})


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("TernarySynapse", "type", "Executor"),
        ("TernarySynapse", "rows", 2.0),
        ("TernarySynapse", "rows", True),
        ("TernarySynapse", "rows", "4"),
        ("TernarySynapse", "name", 7),
        ("TernarySynapse", "source_size", 1),
        ("TernarySynapse", "first_column", -4),
        ("LogitsOut", "scale", "0.5"),
        ("Delay", "steps", True),
        ("Delay", "steps", 0),
        ("Delay", "size", -4),
        ("Delay", "steps", 2.5),
        ("NeuronGroup", "inputs", [["embeddings"]]),
        ("NeuronGroup", "inputs", [["nobody", "out"]]),
        ("NeuronGroup", "formats", [["out", 99, 0]]),
        ("NeuronGroup", "constants", [["gain"]]),
        ("NeuronGroup", "program", {}),
    ],
)
def test_a_field_of_the_wrong_type_or_meaning_is_refused(
    kind: str, field: str, value: Any, data: list[dict[str, Any]]
) -> None:
    damaged = copy.deepcopy(data)
    first(damaged, kind)[field] = value
    with pytest.raises(ValueError, match=r"not a|no slice|not well formed|2 to 32 bits|unpack"):
        graph_from_data(damaged, {})


def test_an_infinite_width_is_refused(data: list[dict[str, Any]]) -> None:
    damaged = copy.deepcopy(data)
    first(damaged, "NeuronGroup")["formats"] = [["out", float("inf"), 0]]
    with pytest.raises(ValueError, match="not a graph"):
        graph_from_data(damaged, {})


@pytest.mark.parametrize("field", ["constants", "tables"])
def test_a_group_without_the_parameters_its_program_loads_is_refused(
    field: str, data: list[dict[str, Any]]
) -> None:
    damaged = copy.deepcopy(data)
    node = next(node for node in damaged if node["type"] == "NeuronGroup" and node[field])
    node[field] = []
    with pytest.raises(ValueError, match=node["name"]):
        graph_from_data(damaged, {})

"""Workload: events by core and step, recounted from the graph."""

from __future__ import annotations

import json

import pytest

from loihi_mmfree.activity.counts import with_zeros, worst_case
from loihi_mmfree.cost.fit import reference_workload
from loihi_mmfree.cost.workload import Workload, count_workload
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.schedule import offsets
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.placer import Request, place
from loihi_mmfree.place.traffic import traffic


@pytest.fixture(scope="module")
def workload(tiny_net: Net) -> Workload:
    """Of mmf-tiny as compiled, in the worst case."""
    return count_workload(
        tiny_net.graph, tiny_net.placed.placement, worst_case(tiny_net.graph), tiny_net.placed.chip
    )


def placed_groups(net: Net) -> list[NeuronGroup]:
    names = {shard.node for core in net.placed.placement.cores for shard in core.shards}
    return [node for node in net.graph if isinstance(node, NeuronGroup) and node.name in names]


def test_synaptic_operations_of_the_worst_case_are_all_synapses_on_chip(workload: Workload, tiny_net: Net) -> None:
    model = tiny_net.manifest["model"]
    hidden, inner = model["hidden_size"], model["intermediate_size"]
    projections = 4 * hidden * hidden + 3 * hidden * inner
    # A norm sums two vectors and sends two numbers to every neuron; six vectors a block are passed on.
    norms = 3 * 4 * hidden + 4 * inner
    delays = 3 * hidden + inner + 2 * hidden
    per_block = projections + norms + delays
    assert workload.events.synaptic_operations == model["num_hidden_layers"] * per_block


def test_instructions_are_neurons_times_program_lengths(workload: Workload, tiny_net: Net) -> None:
    expected = sum(node.size * len(node.program.instructions) for node in placed_groups(tiny_net))
    assert workload.events.instructions == expected


def test_messages_of_the_worst_case_are_all_outputs(workload: Workload, tiny_net: Net) -> None:
    expected = sum(node.size * len(node.program.outputs) for node in placed_groups(tiny_net))
    assert workload.events.messages == expected


def test_a_token_takes_the_steps_to_the_last_group_on_chip(workload: Workload, tiny_net: Net) -> None:
    received = offsets(tiny_net.graph)
    assert len(workload.steps) == 1 + max(received[node.name] for node in placed_groups(tiny_net))


def test_no_core_of_a_lone_tokens_step_has_more_to_do_than_in_a_pipelined_one(workload: Workload) -> None:
    for step in workload.steps:
        for core in step.cores:
            assert any(
                all(a >= b for a, b in zip(busy.values, core.values, strict=True))
                for busy in workload.pipelined.cores
            )


def test_zeros_at_a_projection_save_its_synaptic_operations(workload: Workload, tiny_net: Net) -> None:
    model = tiny_net.manifest["model"]
    sparse = count_workload(
        tiny_net.graph,
        tiny_net.placed.placement,
        with_zeros(tiny_net.graph, {"down_proj": 0.5}),
        tiny_net.placed.chip,
    )
    saved = workload.events.synaptic_operations - sparse.events.synaptic_operations
    weights = model["num_hidden_layers"] * model["hidden_size"] * model["intermediate_size"]
    assert saved == pytest.approx(weights / 2)


def test_the_head_on_chip_adds_its_norm_and_its_synapses(workload: Workload, tiny_net: Net) -> None:
    graph, system, model = tiny_net.graph, tiny_net.placed.chip, tiny_net.manifest["model"]
    placement = place(graph, system, Request(weight_bits=8, head="chip"))
    found = count_workload(graph, placement, worst_case(graph), system)
    hidden = model["hidden_size"]
    # The head, two sums, two broadcasts, and the value passed to the scaling.
    added = hidden * model["vocab_size"] + 5 * hidden
    assert found.events.synaptic_operations - workload.events.synaptic_operations == added


def test_traffic_that_was_counted_before_gives_the_same_workload(workload: Workload, tiny_net: Net) -> None:
    graph, placed = tiny_net.graph, tiny_net.placed
    moved = traffic(graph, placed.chip, placed.placement)
    assert count_workload(graph, placed.placement, worst_case(graph), placed.chip, moved) == workload


def test_a_workload_is_read_back_from_json(workload: Workload) -> None:
    assert Workload.from_dict(json.loads(json.dumps(workload.to_dict()))) == workload


def test_the_reference_is_the_published_system() -> None:
    reference = reference_workload()
    assert reference.chips == 24
    # 24 blocks of 12 steps, and the embedding's.
    assert len(reference.steps) == 24 * 12 + 1
    dense = 24 * (4 * 1024 * 1024 + 3 * 1024 * 2816)
    zeros = 1024 * 1024 * (0.011 + 0.032 + 0.015 + 0.373) + 1024 * 2816 * (2 * 0.011 + 0.301)
    norms_and_delays = 24 * (3 * 4 * 1024 + 4 * 2816 + 5 * 1024 + 2816)
    assert reference.events.synaptic_operations == pytest.approx(dense - 24 * zeros + norms_and_delays, rel=1e-3)

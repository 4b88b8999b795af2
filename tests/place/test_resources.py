"""What neurons of the 370M take up, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.loihi2.hardware import LOIHI2
from loihi_mmfree.place.placement import Shard
from loihi_mmfree.place.resources import usage

MakeNetwork = Callable[..., Graph]
MLGRU, GLU = "layers.1.attn.mlgru", "layers.1.mlp.glu"
RESIDUAL, ROOT, SCALE = "layers.1.mlp.residual", "layers.1.attn_norm.rms", "layers.1.attn_norm.scale"


@pytest.fixture(scope="module")
def network(make_network: MakeNetwork) -> Graph:
    return make_network(24, 1024, 2816, 32000)


def used(network: Graph, weight_bits: int, resource: str, *shards: Shard) -> int:
    return usage(network, LOIHI2, weight_bits, shards)[resource][0]


@pytest.mark.parametrize(
    ("shard", "weight_bits", "expected"),
    [
        # Three rows of 1024 weights for each neuron; 3 x 1024 lists with headers of 4 bytes.
        pytest.param(Shard(MLGRU, 0, 38), 8, 3 * 1024 * (4 + 38), id="mlgru"),
        pytest.param(Shard(MLGRU, 0, 38), 2, 3 * 1024 * (4 + 10), id="mlgru, four weights a byte"),
        pytest.param(Shard(GLU, 100, 60), 8, 2 * 1024 * (4 + 60), id="glu"),
        # A row of 2816, and one delayed synapse: header, weight, number of the neuron, delay.
        pytest.param(Shard(RESIDUAL, 5, 40), 8, 2816 * (4 + 40) + 40 * (4 + 1 + 2 + 1), id="residual"),
        # Two sums of one weight a list.
        pytest.param(Shard(ROOT, 0, 1), 8, 2 * 1024 * (4 + 1), id="rms norm"),
        # One delayed synapse a neuron, and two broadcasts of one list each.
        pytest.param(Shard(SCALE, 0, 9), 8, 9 * (4 + 1 + 2 + 1) + 2 * (4 + 9), id="scale"),
    ],
)
def test_synapse_memory(network: Graph, shard: Shard, weight_bits: int, expected: int) -> None:
    assert used(network, weight_bits, "synapse_bytes", shard) == expected


def test_a_neuron_with_three_messages_counts_as_three(network: Graph) -> None:
    assert used(network, 8, "neurons", Shard(MLGRU, 0, 38), Shard(ROOT, 0, 1)) == 3 * 38 + 2


def test_one_message_takes_one_input_axon_however_many_shards_read_it(network: Graph) -> None:
    # The residual's message j goes to neuron j of the next scale group and of the next residual.
    stream = [Shard("layers.1.attn_norm.scale", 0, 9), Shard("layers.1.attn.residual", 4, 10)]
    both = used(network, 8, "input_axons", *stream)
    assert both == (14 + 2) + 1024
    assert both < sum(used(network, 8, "input_axons", each) for each in stream)


def test_a_delayed_input_keeps_an_accumulator_for_each_step_on_the_way(network: Graph) -> None:
    # 24-bit accumulators: 6 for the delay of six steps, one for the projection; a 16-bit gain.
    assert used(network, 8, "state_bytes", Shard(RESIDUAL, 0, 10)) == 10 * (3 * (6 + 1) + 2)


def test_programs_and_tables_are_held_once_a_core(network: Graph) -> None:
    for resource in ("program_bytes", "table_bytes"):
        one, many = (used(network, 8, resource, Shard(GLU, 0, count)) for count in (1, 50))
        assert one == many > 0
    assert used(network, 8, "table_bytes", Shard(GLU, 0, 1)) == 257 * 3


def test_limits_are_those_of_the_system(network: Graph) -> None:
    limits = {name: limit for name, (_, limit) in usage(network, LOIHI2, 8, [Shard(ROOT, 0, 1)]).items()}
    assert limits["synapse_bytes"] == 128 * 1024
    assert limits["state_bytes"] == 64 * 1024
    assert limits["core_memory_bytes"] == 192 * 1024

"""From layers to synapses and neuron groups: which nodes a block becomes, and with which parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.layers import Normalise, layer_graph
from loihi_mmfree.compiler.passes.lower import lower
from loihi_mmfree.compiler.reference import evaluate_layers
from loihi_mmfree.errors import UnsupportedModelError
from loihi_mmfree.fixedpoint.tables import rsqrt_table, sigmoid_table
from loihi_mmfree.ir.graph import Source
from loihi_mmfree.ir.nodes import LogitsOut, NeuronGroup, Role, TokenIn, block_of
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.loihi2.hardware import LOIHI2
from loihi_mmfree.sim.engine.specification import Engine

PROJECTIONS = {"i_proj", "f_proj", "g_proj", "o_proj", "gate_proj.gate", "gate_proj.up", "down_proj"}


def kinds(lowered: Any, block: str) -> Counter[str]:
    """Number of nodes of each kind in a block; neuron groups by their role."""
    nodes = (node for node in lowered.unscheduled if block_of(node.name) == block)
    return Counter(node.kind for node in nodes)


def group(lowered: Any, name: str) -> NeuronGroup:
    node = lowered.graph.by_name[name]
    assert isinstance(node, NeuronGroup)
    return node


def weights(lowered: Any, name: str) -> np.ndarray:
    node = lowered.graph.by_name[name]
    assert isinstance(node, TernarySynapse)
    return node.weights(lowered.graph.tensors)


def constant(lowered: Any, node: NeuronGroup, name: str) -> np.ndarray:
    return lowered.graph.tensors[dict(node.constants)[name]]


class TestNodes:
    @pytest.mark.parametrize("block", ["layers.0", "layers.1"])
    def test_a_block_is_seven_projections_four_norms_and_four_other_groups(self, lowered: Any, block: str) -> None:
        assert kinds(lowered, block) == {
            "TernarySynapse": 7,
            "SumSynapse": 8,
            "RmsNorm": 4,
            "Broadcast": 8,
            "Scale": 4,
            "MlGru": 1,
            "Glu": 1,
            "Residual": 2,
        }

    def test_the_head_is_a_norm_and_a_projection(self, lowered: Any) -> None:
        assert kinds(lowered, "lm_head") == {
            "SumSynapse": 2,
            "RmsNorm": 1,
            "Broadcast": 2,
            "Scale": 1,
            "TernarySynapse": 1,
        }

    def test_the_host_gives_rows_of_the_embedding_and_takes_logits(self, lowered: Any) -> None:
        assert kinds(lowered, "host") == {"TokenIn": 1, "LogitsOut": 1}
        assert kinds(lowered, "embeddings") == {"Embedding": 1}

    def test_the_graph_is_well_formed(self, lowered: Any) -> None:
        lowered.unscheduled.check()

    def test_one_scale_group_serves_i_f_and_g(self, lowered: Any) -> None:
        scale = group(lowered, "layers.1.attn_norm.scale")
        assert list(scale.outputs) == ["i_proj", "f_proj", "g_proj"]
        readers = {node.name for node in lowered.graph.readers(scale)}
        assert readers == {f"layers.1.attn.{part}_proj" for part in "ifg"}

    def test_every_synapse_between_groups_is_named_as_in_the_checkpoint(self, lowered: Any) -> None:
        names = {node.name for node in lowered.graph if isinstance(node, TernarySynapse)}
        blocks = {f"layers.{layer}" for layer in (0, 1)}
        assert names == {"lm_head"} | {
            f"{block}.{'mlp' if part.startswith(('gate', 'down')) else 'attn'}.{part}"
            for block in blocks
            for part in PROJECTIONS
        }


class TestParameters:
    def test_codes_are_the_weights_over_their_mean_magnitude_rounded(self, lowered: Any) -> None:
        weight = lowered.checkpoint.tensor("model.layers.0.attn.f_proj.weight").double().numpy()
        expected = np.clip(np.round(weight / np.abs(weight).mean()), -1, 1)
        assert np.array_equal(weights(lowered, "layers.0.attn.f_proj"), expected)

    def test_gate_and_up_take_the_halves_of_their_weight(self, lowered: Any) -> None:
        weight = lowered.checkpoint.tensor("model.layers.1.mlp.gate_proj.weight").double().numpy()
        expected = np.clip(np.round(weight / np.abs(weight).mean()), -1, 1)
        halves = [weights(lowered, f"layers.1.mlp.gate_proj.{part}") for part in ("gate", "up")]
        assert np.array_equal(np.concatenate(halves), expected)

    def test_codes_are_held_four_to_a_byte(self, lowered: Any) -> None:
        packed = lowered.graph.tensors["layers.0.mlp.down_proj.codes"]
        assert packed.dtype == np.uint8
        assert packed.shape == (16, 24 // 4)

    def test_a_logit_is_worth_the_weight_scale_times_the_unit_of_the_activations(self, lowered: Any) -> None:
        logits = lowered.graph.by_name["logits"]
        assert isinstance(logits, LogitsOut)
        weight = lowered.checkpoint.tensor("lm_head.weight").double().numpy()
        form = dict(group(lowered, "norm.scale").formats)["lm_head"]
        assert logits.scale == pytest.approx(np.abs(weight).mean() * form.scale, rel=1e-6)

    def test_the_embedding_is_rounded_to_its_format(self, lowered: Any) -> None:
        form = dict(group(lowered, "embeddings").formats)["out"]
        real = lowered.checkpoint.tensor("model.embeddings.weight").double().numpy()
        table = lowered.graph.tensors["tokens.table"]
        assert table.dtype == np.int16
        assert np.max(np.abs(table * form.scale - real)) <= 0.5 * form.scale

    def test_the_gains_of_a_norm_hold_the_root_of_its_width(self, lowered: Any) -> None:
        node = group(lowered, "layers.0.attn_norm.scale")
        gains = [
            lowered.checkpoint.tensor(f"model.layers.0.{name}.weight").double().numpy()
            for name in ("attn_norm", "attn.i_proj.norm")
        ]
        multipliers = constant(lowered, node, "gain_i_proj")
        exact = gains[0] * gains[1] * np.sqrt(len(multipliers))
        # The largest gain has fifteen bits; all share its shift.
        assert 2**14 <= np.abs(multipliers).max() < 2**15
        shift = round(np.log2(np.abs(multipliers).max() / np.abs(exact).max()))
        assert np.max(np.abs(multipliers - exact * 2.0**shift)) <= 0.5

    def test_lower_bounds_are_those_of_the_layer(self, lowered: Any) -> None:
        logits = lowered.checkpoint.tensor("model.lower_bounds").double().numpy()
        shares = np.exp(logits) / np.exp(logits).sum(0)
        found = constant(lowered, group(lowered, "layers.1.attn.mlgru"), "lower_bound")
        assert np.max(np.abs(found - 2**15 * shares[1])) <= 0.5

    def test_the_first_layer_has_no_lower_bound(self, lowered: Any) -> None:
        assert "lower_bound" not in dict(group(lowered, "layers.0.attn.mlgru").constants)

    def test_the_two_tables_are_shared_by_all_groups(self, lowered: Any) -> None:
        keys = {key for node in lowered.graph if isinstance(node, NeuronGroup) for _, key in node.tables}
        assert keys == {"tables.sigmoid", "tables.rsqrt"}
        assert np.array_equal(lowered.graph.tensors["tables.sigmoid"], sigmoid_table())
        assert np.array_equal(lowered.graph.tensors["tables.rsqrt"], rsqrt_table())

    def test_every_tensor_is_integer_and_read_by_some_node(self, lowered: Any) -> None:
        read: set[str] = set()
        for node in lowered.graph:
            if isinstance(node, NeuronGroup):
                read.update(key for _, key in (*node.constants, *node.tables))
            if isinstance(node, TernarySynapse):
                read.add(node.codes)
            if isinstance(node, TokenIn):
                read.add(node.table)
        assert read == set(lowered.graph.tensors)
        assert all(np.issubdtype(tensor.dtype, np.integer) for tensor in lowered.graph.tensors.values())

    @pytest.mark.parametrize("bits", [8, 10, 16])
    def test_every_projection_reads_activations_of_the_width_asked_for(
        self, bits: int, lowered: Any, lower_checkpoint: Callable[..., Any]
    ) -> None:
        narrow = lower_checkpoint(lowered.checkpoint, activation_bits=bits)
        for node in narrow.graph:
            if isinstance(node, NeuronGroup) and node.role is Role.SCALE:
                assert {form.bits for _, form in node.formats} == {bits}


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param({"expand_ratio": 2}, id="expanded"),
        pytest.param({"tie_word_embeddings": True}, id="tied"),
        pytest.param({"use_lower_bound": False, "num_heads": 2}, id="heads-without-bounds"),
        pytest.param({"num_hidden_layers": 1, "hidden_size": 12, "intermediate_size": 7}, id="odd"),
    ],
)
def test_any_shape_is_lowered_to_a_network_that_tracks_the_layers(
    shape: dict[str, Any], make_checkpoint: Callable[..., Checkpoint], lower_checkpoint: Callable[..., Any]
) -> None:
    result = lower_checkpoint(make_checkpoint(**shape), activation_bits=16)
    engine = Engine(result.graph, strict=True)
    found = engine.process(result.ids) * engine.logit_scale
    expected = evaluate_layers(result.layers, result.checkpoint, result.ids)["logits"]
    assert np.linalg.norm(found - expected) <= 5e-3 * np.linalg.norm(expected)
    assert engine.counters.overflows == 0


class TestRefusals:
    def test_a_norm_that_is_not_split_is_not_lowered(self, lowered: Any) -> None:
        stray = Normalise("stray", (Source("embeddings"),), 16, (), (), 0.0, "stray")
        graph = lowered.layers.with_nodes([*lowered.layers.nodes, stray])
        with pytest.raises(TypeError, match="stray: Normalise must be rewritten before lowering"):
            lower(graph, lowered.checkpoint, lowered.formats, LOIHI2)

    def test_a_layer_graph_no_pass_has_seen_is_refused_by_name(self, lowered: Any) -> None:
        with pytest.raises(TypeError, match="must be rewritten before lowering"):
            lower(layer_graph(lowered.checkpoint.config), lowered.checkpoint, lowered.formats, LOIHI2)

    @pytest.mark.parametrize(
        ("tensor", "name"),
        [
            ("model.layers.1.attn.g_norm.weight", r"layers\.1\.attn\.g_norm"),
            ("model.layers.0.attn.i_proj.norm.weight", r"layers\.0\.attn\.i_proj\.norm"),
            ("model.layers.1.mlp_norm.weight", r"layers\.1\.mlp_norm"),
        ],
    )
    def test_gains_that_are_all_zero_are_refused_by_name(
        self,
        tensor: str,
        name: str,
        make_checkpoint: Callable[..., Checkpoint],
        lower_checkpoint: Callable[..., Any],
    ) -> None:
        width = make_checkpoint().tensor(tensor).shape
        checkpoint = make_checkpoint({tensor: np.zeros(width, dtype=np.float32)})
        with pytest.raises(UnsupportedModelError, match=name):
            lower_checkpoint(checkpoint)

"""The norm algebra: what each pass changes in the layer graph, and by how much in the logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loihi_mmfree.checkpoint import Checkpoint, open_checkpoint
from loihi_mmfree.compiler.layers import Gain, Normalise, Scale, Statistic, layer_graph
from loihi_mmfree.compiler.passes.drop_gate_norm import drop_gate_norm
from loihi_mmfree.compiler.passes.merge_norms import merge_norms
from loihi_mmfree.compiler.passes.share_statistics import share_statistics
from loihi_mmfree.compiler.reference import evaluate_layers
from loihi_mmfree.ir.graph import Graph

IDS = np.random.default_rng(3).integers(32, size=24)
EPSILON = 1e-6


def count(graph: Graph, *kinds: type) -> dict[str, int]:
    """Number of nodes of some kinds in each block, and of the rest under `head`."""
    blocks = (
        ".".join(node.name.split(".")[:2]) if node.name.startswith("layers.") else "head"
        for node in graph
        if isinstance(node, kinds)
    )
    return dict(Counter(blocks))


def change(before: np.ndarray, after: np.ndarray) -> float:
    """Relative norm of a difference."""
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: Callable[..., Checkpoint]) -> Checkpoint:
    return make_checkpoint()


def stages(checkpoint: Checkpoint) -> list[Graph]:
    """The layer graph as built and after each pass, each well formed."""
    graphs = [layer_graph(checkpoint.config)]
    for each in (merge_norms, drop_gate_norm, share_statistics):
        graphs.append(each(graphs[-1]))
        graphs[-1].check()
    return graphs


@pytest.fixture(scope="module")
def logits(tiny_checkpoint: Path) -> list[np.ndarray]:
    """Logits of mmf-tiny after 32 tokens of real text, as built and after each pass."""
    checkpoint = open_checkpoint(tiny_checkpoint)
    ids = np.load(tiny_checkpoint / "golden.npz")["a/input_ids"].reshape(-1).astype(np.int64)
    return [evaluate_layers(graph, checkpoint, ids)["logits"] for graph in stages(checkpoint)]


class TestNormCount:
    def test_a_block_starts_with_nine_norms(self, checkpoint: Checkpoint) -> None:
        built = stages(checkpoint)[0]
        assert count(built, Normalise) == {"layers.0": 9, "layers.1": 9, "head": 2}

    def test_merging_leaves_the_norms_of_the_seven_projections_and_of_the_gate(
        self, checkpoint: Checkpoint
    ) -> None:
        merged = stages(checkpoint)[1]
        assert count(merged, Normalise) == {"layers.0": 7, "layers.1": 7, "head": 1}

    def test_the_norm_of_the_gate_becomes_its_gain(self, checkpoint: Checkpoint) -> None:
        dropped = stages(checkpoint)[2]
        assert count(dropped, Normalise) == {"layers.0": 6, "layers.1": 6, "head": 1}
        assert [node.name for node in dropped if isinstance(node, Gain)] == [
            "layers.0.attn.g_norm",
            "layers.1.attn.g_norm",
        ]

    def test_four_statistics_a_block_and_one_for_the_head_are_left(self, checkpoint: Checkpoint) -> None:
        shared = stages(checkpoint)[3]
        assert count(shared, Statistic) == {"layers.0": 4, "layers.1": 4, "head": 1}
        assert count(shared, Scale) == {"layers.0": 6, "layers.1": 6, "head": 1}
        assert not count(shared, Normalise)

    def test_i_f_and_g_share_one_statistic(self, checkpoint: Checkpoint) -> None:
        shared = stages(checkpoint)[3]
        read = {shared.by_name[f"layers.1.attn.{part}_proj.norm"].inputs[1].node for part in "ifg"}
        assert read == {"layers.1.attn_norm.rms"}


class TestLogits:
    def test_merging_norms_changes_them_by_less_than_a_ten_thousandth(self, logits: list[np.ndarray]) -> None:
        built, merged, _, _ = logits
        assert change(built, merged) <= 1e-4

    def test_dropping_the_gate_norm_changes_them_by_what_its_epsilon_was_worth(
        self, logits: list[np.ndarray]
    ) -> None:
        _, merged, dropped, _ = logits
        # Measured 7.5e-5. The epsilon 1e-6 meets gated states with a mean square between 1.4e-4 (one token of
        # the last block) and 6e-3 and more (the first), so it moves the scale of an o_proj by 0.4 % at most,
        # by 0.01 % as a rule, and the o_proj is one of two summands of one block.
        assert change(merged, dropped) <= 5e-4

    def test_sharing_statistics_does_not_change_them(self, logits: list[np.ndarray]) -> None:
        _, _, dropped, shared = logits
        assert change(dropped, shared) <= 1e-12

    @pytest.mark.parametrize("shape", [{"expand_ratio": 2}, {"tie_word_embeddings": True}, {"num_heads": 2}])
    def test_all_passes_together_keep_those_of_other_shapes(
        self, shape: dict[str, object], make_checkpoint: Callable[..., Checkpoint]
    ) -> None:
        checkpoint = make_checkpoint(**shape)
        built, *_, shared = (evaluate_layers(graph, checkpoint, IDS)["logits"] for graph in stages(checkpoint))
        assert change(built, shared) <= 5e-4


class TestEpsilons:
    def test_a_merged_norm_differs_by_exactly_the_epsilons_it_leaves_out(self, checkpoint: Checkpoint) -> None:
        built, merged, *_ = stages(checkpoint)
        before, after = (evaluate_layers(graph, checkpoint, IDS) for graph in (built, merged))
        name = "layers.0.attn.i_proj.norm"
        x = before["embeddings"]
        gain = checkpoint.tensor("model.layers.0.attn_norm.weight").double().numpy()
        # RMS(RMS(x; e) a; e) has the scale 1 / sqrt(mean((x a)^2) + e (mean(x^2) + e)).
        left_out = EPSILON * (np.mean(x**2, axis=1, keepdims=True) + EPSILON)
        factor = np.sqrt(1 + left_out / np.mean((x * gain) ** 2, axis=1, keepdims=True))
        assert np.allclose(after[name], before[name] * factor, rtol=1e-12, atol=0)

    def test_without_the_gate_norm_a_token_differs_by_exactly_the_epsilon_it_leaves_out(
        self, checkpoint: Checkpoint
    ) -> None:
        _, merged, dropped, _ = stages(checkpoint)
        before, after = (evaluate_layers(graph, checkpoint, IDS) for graph in (merged, dropped))
        name, gated = "layers.0.attn.o_proj.norm", before["layers.0.attn.output"]
        factor = np.sqrt(1 + EPSILON / np.mean(gated**2, axis=1, keepdims=True))
        assert np.allclose(after[name], before[name] * factor, rtol=1e-9, atol=0)

    def test_the_epsilon_of_the_last_projection_of_a_block_is_kept(self, checkpoint: Checkpoint) -> None:
        kept = {node.name: node.epsilon for node in stages(checkpoint)[3] if isinstance(node, Statistic)}
        assert {name for name, epsilon in kept.items() if epsilon} == {
            "layers.0.mlp.down_proj.norm.rms",
            "layers.1.mlp.down_proj.norm.rms",
        }
        assert kept["layers.0.mlp.down_proj.norm.rms"] == EPSILON


class TestWhatIsLeftAlone:
    @pytest.mark.parametrize("each", [merge_norms, share_statistics, drop_gate_norm])
    def test_a_second_application_changes_nothing(
        self, each: Callable[[Graph], Graph], checkpoint: Checkpoint
    ) -> None:
        once = each(layer_graph(checkpoint.config))
        assert each(once).nodes == once.nodes

    def test_a_norm_with_another_reader_stays_beside_the_merged_one(self, checkpoint: Checkpoint) -> None:
        graph = layer_graph(checkpoint.config)
        tapped = Gain("tap", (graph.by_name["norm"].out(),), 16, ())
        merged = merge_norms(graph.with_nodes([*graph.nodes, tapped]))
        merged.check()
        assert isinstance(merged.by_name["norm"], Normalise)

    def test_a_gate_norm_that_something_else_reads_is_not_dropped(self, checkpoint: Checkpoint) -> None:
        graph = layer_graph(checkpoint.config)
        tapped = Gain("tap", (graph.by_name["layers.0.attn.g_norm"].out(),), 16, ())
        kept = drop_gate_norm(graph.with_nodes([*graph.nodes, tapped]))
        assert isinstance(kept.by_name["layers.0.attn.g_norm"], Normalise)
        assert isinstance(kept.by_name["layers.1.attn.g_norm"], Gain)

"""The layer graph computes the model as defined: against an independent implementation, no activation rounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.checkpoint import Checkpoint, ModelConfig, expected_shapes
from loihi_mmfree.compiler import layers
from loihi_mmfree.compiler.layers import layer_graph
from loihi_mmfree.compiler.passes.drop_gate_norm import drop_gate_norm
from loihi_mmfree.compiler.passes.merge_norms import merge_norms
from loihi_mmfree.compiler.reference import evaluate_layers

Tensors = Mapping[str, np.ndarray]
PROJECTION_EPSILON = 1e-6
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "two-heads": {"num_heads": 2},
    "expanded": {"expand_ratio": 2},
    "no-lower-bound": {"use_lower_bound": False},
    "tied": {"tie_word_embeddings": True},
    "other-epsilon": {"rms_norm_eps": 1e-2},
    "derived-width": {"intermediate_size": None, "hidden_ratio": 1},
    "all-together": {"num_heads": 4, "expand_ratio": 2, "use_lower_bound": False, "tie_word_embeddings": True},
}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def rms(x: np.ndarray, epsilon: float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)


class Model:
    """The MatMul-free language model in NumPy, float64, written from its definition."""

    def __init__(self, config: ModelConfig, tensors: Tensors) -> None:
        self.config, self.tensors = config, tensors

    def gain(self, name: str) -> np.ndarray:
        return self.tensors[f"{name}.weight"]

    def projection(self, name: str, x: np.ndarray, weight: str | None = None) -> np.ndarray:
        matrix = self.tensors[weight or f"{name}.weight"]
        scale = np.abs(matrix).mean()
        ternary = np.clip(np.round(matrix / scale), -1, 1) * scale
        return rms(x, PROJECTION_EPSILON) * self.gain(f"{name}.norm") @ ternary.T

    def lower_bound(self, layer: int) -> np.ndarray | float:
        if layer == 0 or not self.config.use_lower_bound:
            return 0.0
        logits = self.tensors["model.lower_bounds"]
        shares = np.exp(logits) / np.exp(logits).sum(0)
        return shares[: layer + 1].sum(0) - shares[0]

    def token_mixer(self, layer: int, x: np.ndarray) -> np.ndarray:
        name, epsilon = f"model.layers.{layer}", self.config.rms_norm_eps
        a = rms(x, epsilon) * self.gain(f"{name}.attn_norm")
        i, f, g = (self.projection(f"{name}.attn.{part}_proj", a) for part in "ifg")
        bound = self.lower_bound(layer)
        forget = bound + (1 - bound) * sigmoid(f)
        state, states = np.zeros(i.shape[1]), []
        for t in range(len(i)):
            state = forget[t] * state + (1 - forget[t]) * silu(i[t])
            states.append(state)
        y = rms(g, epsilon) * self.gain(f"{name}.attn.g_norm") * silu(np.array(states))
        return self.projection(f"{name}.attn.o_proj", y)

    def channel_mixer(self, layer: int, x: np.ndarray) -> np.ndarray:
        name = f"model.layers.{layer}"
        m = rms(x, self.config.rms_norm_eps) * self.gain(f"{name}.mlp_norm")
        gate, up = np.split(self.projection(f"{name}.mlp.gate_proj", m), 2, axis=1)
        return self.projection(f"{name}.mlp.down_proj", silu(gate) * up)

    def logits(self, ids: np.ndarray) -> np.ndarray:
        x = self.tensors["model.embeddings.weight"][ids]
        for layer in range(self.config.num_hidden_layers):
            x = x + self.token_mixer(layer, x)
            x = x + self.channel_mixer(layer, x)
        final = rms(x, self.config.rms_norm_eps) * self.gain("model.norm")
        tied = "model.embeddings.weight" if self.config.tie_word_embeddings else None
        return self.projection("lm_head", final, tied)


def tensors_of(checkpoint: Checkpoint) -> Tensors:
    return {name: checkpoint.tensor(name).double().numpy() for name in expected_shapes(checkpoint.config)}


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative norm of the difference."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module", params=SHAPES.values(), ids=list(SHAPES))
def checkpoint(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Checkpoint]) -> Checkpoint:
    """A random checkpoint of each shape in turn, of three blocks."""
    return make_checkpoint(num_hidden_layers=3, **request.param)


IDS = np.random.default_rng(2).integers(32, size=20)


def test_the_layer_graph_of_any_shape_is_the_model(checkpoint: Checkpoint) -> None:
    graph = layer_graph(checkpoint.config)
    graph.check()
    expected = Model(checkpoint.config, tensors_of(checkpoint)).logits(IDS)
    # Scales are means in float32 there, in float64 here.
    assert difference(evaluate_layers(graph, checkpoint, IDS)["logits"], expected) <= 1e-5


@pytest.mark.parametrize("shape", ["plain", "expanded"])
def test_a_bound_that_is_left_out_would_be_noticed(shape: str, make_checkpoint: Callable[..., Checkpoint]) -> None:
    checkpoint = make_checkpoint(num_hidden_layers=3, **SHAPES[shape])
    tensors = dict(tensors_of(checkpoint))
    tensors["model.lower_bounds"] = np.zeros_like(tensors["model.lower_bounds"])
    expected = Model(checkpoint.config, tensors).logits(IDS)
    found = evaluate_layers(layer_graph(checkpoint.config), checkpoint, IDS)["logits"]
    assert difference(found, expected) > 1e-2


def test_a_token_that_is_zero_throughout_stays_zero(make_checkpoint: Callable[..., Checkpoint]) -> None:
    embedding = np.zeros((32, 16), dtype=np.float32)
    checkpoint = make_checkpoint({"model.embeddings.weight": embedding})
    # Without the epsilons, which the passes drop, nothing but the rule itself avoids 0 / 0.
    graph = drop_gate_norm(merge_norms(layer_graph(checkpoint.config)))
    values = evaluate_layers(graph, checkpoint, IDS)
    assert not np.any(values["logits"])
    assert all(np.isfinite(value).all() for value in values.values())


def test_only_layer_nodes_are_evaluated(make_checkpoint: Callable[..., Checkpoint]) -> None:
    checkpoint = make_checkpoint()
    graph = layer_graph(checkpoint.config)
    stray = layers.LayerNode("stray", (graph.nodes[0].out(),), 16)
    with pytest.raises(TypeError, match="stray: LayerNode is not a layer node"):
        evaluate_layers(graph.with_nodes([*graph.nodes, stray]), checkpoint, IDS)


def shaped(**values: Any) -> ModelConfig:
    """A very small configuration of two blocks."""
    small = {"model_type": "hgrn_bit", "hidden_size": 8, "vocab_size": 9, "num_hidden_layers": 2}
    return ModelConfig.from_dict(small | values)


class TestLayerGraph:
    def test_a_tied_head_reads_the_embedding(self) -> None:
        head = layer_graph(shaped(tie_word_embeddings=True)).by_name["lm_head"]
        assert isinstance(head, layers.Projection)
        assert head.weight == "model.embeddings.weight"

    def test_gate_and_up_are_the_halves_of_one_weight(self) -> None:
        graph = layer_graph(shaped(intermediate_size=12))
        halves = [graph.by_name[f"layers.0.mlp.gate_proj.{part}"] for part in ("gate", "up")]
        assert [(half.weight, half.first_row, half.size) for half in halves] == [  # type: ignore[attr-defined]
            ("model.layers.0.mlp.gate_proj.weight", 0, 12),
            ("model.layers.0.mlp.gate_proj.weight", 12, 12),
        ]

    @pytest.mark.parametrize(("use_lower_bound", "bounded"), [(True, [False, True]), (False, [False, False])])
    def test_forget_gates_above_the_first_layer_have_lower_bounds(
        self, use_lower_bound: bool, bounded: list[bool]
    ) -> None:
        graph = layer_graph(shaped(use_lower_bound=use_lower_bound))
        cells = [node for node in graph if isinstance(node, layers.MlGru)]
        assert [cell.bounded for cell in cells] == bounded

    def test_every_tensor_of_the_checkpoint_is_referred_to(self, checkpoint: Checkpoint) -> None:
        names: set[str] = {"model.lower_bounds"} if checkpoint.config.use_lower_bound else set()
        for node in layer_graph(checkpoint.config):
            names.update(getattr(node, "gains", ()))
            names.update([node.weight] if isinstance(node, layers.Embedding | layers.Projection) else [])
        assert names == set(expected_shapes(checkpoint.config))

"""The same integers from Lava and from the engine, however the network is cut into processes and calls."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from loihi_mmfree.activity.observer import Observer
from loihi_mmfree.checkpoint import ModelConfig, expected_shapes, open_checkpoint
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.golden import golden_messages
from loihi_mmfree.compiler.pipeline import compile_graph
from loihi_mmfree.errors import UsageError
from loihi_mmfree.ir.executor import Executor, counting_nodes
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import NeuronGroup, Role, TokenIn
from loihi_mmfree.ir.synapses import SumSynapse, TernarySynapse
from loihi_mmfree.loihi2.hardware import LOIHI2
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.engine.compiled import FastEngine
from loihi_mmfree.sim.engine.specification import Engine
from loihi_mmfree.sim.lava.network import LavaNetwork
from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime

GRANULARITIES = ("operator", "block", "network")
SHAPES = {
    "lower bounds": {},
    "heads, wide mixer, no lower bound": {"num_heads": 2, "expand_ratio": 2, "use_lower_bound": False},
    "tied embeddings, one block": {"num_hidden_layers": 1, "tie_word_embeddings": True},
}


@pytest.fixture(scope="module", params=sorted(SHAPES))
def random_graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """A very small model of random weights, compiled."""
    return compile_random(tmp_path_factory.mktemp("random"), **SHAPES[request.param])


@pytest.fixture(scope="module")
def smallest_graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """A model of one block of 8 neurons, for the runtime that starts an OS process for every node."""
    return compile_random(tmp_path_factory.mktemp("smallest"), hidden_size=8, num_hidden_layers=1)


def compile_random(folder: Path, **changes: object) -> Graph:
    values: dict[str, object] = {
        "model_type": "hgrn_bit",
        "vocab_size": 23,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "intermediate_size": 24,
    }
    values |= changes
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator)
        for name, shape in expected_shapes(ModelConfig.from_dict(values)).items()
    }
    tensors |= {name: 1 + 0.1 * value for name, value in tensors.items() if "norm" in name}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values))
    return compile_graph(open_checkpoint(folder), CompileConfig(), random_ids(128, 23)).graph


def random_ids(count: int, vocab_size: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, vocab_size, count)


def in_calls(network: LavaNetwork, ids: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """The logits of a sequence that is cut into calls of these sizes."""
    parts = np.split(ids, np.cumsum(sizes))[:-1]
    return np.concatenate([network.process(part) for part in parts])


PROMPT = 64 + 23
"""Tokens of which 64 go through together, and then the others."""


@pytest.mark.parametrize("kernels", ["compiled", "numpy"])
def test_a_prompt_in_messages_of_many_tokens_gives_the_engines_logits_states_and_counts(
    smallest_graph: Graph, kernels: str
) -> None:
    ids = random_ids(PROMPT + 20, 23)
    cells = [node.name for node in smallest_graph if node.states]
    with (
        FastEngine(smallest_graph, strict=True) as engine,
        LavaNetwork(smallest_graph, "network", kernels=kernels) as network,
    ):
        for part in np.split(ids, [PROMPT, PROMPT + 1, PROMPT + 8]):
            np.testing.assert_array_equal(network.process(part), engine.process(part))
            assert network.counters == engine.counters
            for name in cells:
                for state, values in engine.state(name).items():
                    np.testing.assert_array_equal(network.state(name)[state], values)
        assert network.steps == len(ids)
        network.reset()
        engine.reset()
        np.testing.assert_array_equal(network.read(ids[:70]), engine.read(ids[:70]))


def test_a_prompt_at_network_granularity_is_one_message_in_a_time_step(
    smallest_graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    begin = InProcessRuntime.begin
    monkeypatch.setattr(
        InProcessRuntime, "begin", lambda runtime, steps: (begun.append(steps), begin(runtime, steps))[1]
    )
    with LavaNetwork(smallest_graph, "network") as network:
        network.process(random_ids(2 * 64 + 10, 23))
    assert begun == [2, 1]


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_random_networks_give_the_engines_logits_in_one_call_and_in_many(
    random_graph: Graph, granularity: str
) -> None:
    ids = random_ids(9, 23)
    expected = Engine(random_graph).process(ids)
    with LavaNetwork(random_graph, granularity) as network:
        at_once = network.process(ids)
        network.reset()
        cut = in_calls(network, ids, (1, 1, 3, 3, 1))
    np.testing.assert_array_equal(at_once, expected)
    np.testing.assert_array_equal(cut, expected)
    assert at_once.dtype == np.int32


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_mmf_tiny_gives_the_engines_logits(tiny_net: Net, granularity: str) -> None:
    ids = random_ids(21, 512)
    expected = Engine(tiny_net.graph).process(ids)
    with LavaNetwork(tiny_net.graph, granularity) as network:
        found = in_calls(network, ids, (17, 1, 1, 2))
        assert network.logit_scale == Engine(tiny_net.graph).logit_scale
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_lava_over_numpy_gives_the_same_logits(random_graph: Graph, granularity: str) -> None:
    ids = random_ids(7, 23)
    with LavaNetwork(random_graph, granularity, kernels="numpy") as network:
        found = in_calls(network, ids, (4, 1, 2))
        network.reset()
        np.testing.assert_array_equal(network.process(ids[:2]), found[:2])
    np.testing.assert_array_equal(found, Engine(random_graph).process(ids))


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_stock_lava_gives_the_same_logits(smallest_graph: Graph, granularity: str) -> None:
    ids = random_ids(12, 23)
    with LavaNetwork(smallest_graph, granularity, runtime="stock", timeout_seconds=30) as network:
        found = in_calls(network, ids, (9, 1, 2))
        np.testing.assert_array_equal(found, Engine(smallest_graph).process(ids))
        network.reset()
        np.testing.assert_array_equal(network.process(ids[:2]), found[:2])


def messages_of(graph: Graph, granularity: str, ids: np.ndarray) -> dict[str, np.ndarray]:
    """What the processes send one another, by `node:port`, without the rows that the host writes."""
    pieces: dict[str, list[np.ndarray]] = {}
    observer = Observer(values=lambda source, values: pieces.setdefault(str(source), []).append(values))
    with LavaNetwork(graph, granularity, observer=observer) as network:
        network.read(ids[:1])
        network.reset()
        pieces.clear()
        network.read(ids)
    pieces.pop("tokens:out")
    return {key: np.concatenate(each) for key, each in pieces.items()}


def test_every_message_between_nodes_is_the_engines(random_graph: Graph) -> None:
    ids = random_ids(5, 23)
    expected = golden_messages(random_graph, ids)
    found = messages_of(random_graph, "operator", ids)
    assert set(found) == set(expected) - {"ids"}
    for key, values in found.items():
        np.testing.assert_array_equal(values, expected[key], err_msg=key)


def test_every_message_between_blocks_is_the_engines(random_graph: Graph) -> None:
    ids = random_ids(5, 23)
    expected = golden_messages(random_graph, ids)
    found = messages_of(random_graph, "block", ids)
    assert {"embeddings:out", "layers.0.mlp.residual:out", "lm_head:out"} <= set(found)
    for key, values in found.items():
        np.testing.assert_array_equal(values, expected[key], err_msg=key)


def narrow_registers(graph: Graph) -> Graph:
    """The graph with the sums of residuals declared as 2 bits wide, which they do not fit."""

    def narrow(node: Node) -> Node:
        if not isinstance(node, NeuronGroup) or node.role is not Role.RESIDUAL:
            return node
        instructions = tuple(
            replace(each, bits=2) if each.operation == "add" else each for each in node.program.instructions
        )
        return replace(node, program=replace(node.program, instructions=instructions))

    return graph.with_nodes(narrow(node) for node in graph)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_overflows_are_counted_as_by_the_engine(smallest_graph: Graph, granularity: str) -> None:
    graph = narrow_registers(smallest_graph)
    engine = Engine(graph, strict=True)
    engine.process(random_ids(5, 23))
    with LavaNetwork(graph, granularity, strict=True) as network:
        network.process(random_ids(5, 23))
        assert network.counters == engine.counters
        assert network.counters.overflows > 0
        assert type(network.counters.overflows) is int


@pytest.mark.parametrize("kernels", ["compiled", "numpy"])
def test_what_every_node_counts_at_every_token_is_what_the_engine_counts(
    smallest_graph: Graph, kernels: str
) -> None:
    ids = random_ids(5, 23)
    narrow = replace(LOIHI2, accumulator_bits=replace(LOIHI2.accumulator_bits, value=6))
    graph = replace(narrow_registers(smallest_graph), chip=narrow)
    expected: dict[str, np.ndarray] = {}
    found: dict[str, list[np.ndarray]] = {}
    observer = Observer(incidents=lambda node, counts: expected.update({node: counts}))
    engine = Engine(graph, strict=True, observer=observer)
    engine.read(ids)
    observer = Observer(incidents=lambda node, counts: found.setdefault(node, []).append(counts))
    with LavaNetwork(graph, kernels=kernels, observer=observer) as network:
        for some in (ids[:3], ids[3:4], ids[4:]):
            network.read(some)
        assert network.counters == engine.counters
    compiled = FastEngine(graph, strict=True)
    compiled.process(ids)
    assert compiled.counters == engine.counters
    assert set(found) == set(expected) == set(counting_nodes(graph))
    assert {type(graph.by_name[node]) for node, counts in expected.items() if counts.any()} == {
        NeuronGroup, TernarySynapse, SumSynapse,
    }  # fmt: skip
    for node, counts in expected.items():
        np.testing.assert_array_equal(np.concatenate(found[node]), counts, err_msg=node)


def test_what_nodes_count_by_token_is_known_at_operator_granularity_only(smallest_graph: Graph) -> None:
    observer = Observer(incidents=lambda node, counts: None)
    with pytest.raises(UsageError, match="block granularity does not show what every node counts by token; use"):
        LavaNetwork(smallest_graph, "block", observer=observer)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_states_are_the_engines(random_graph: Graph, granularity: str) -> None:
    ids = random_ids(5, 23)
    inner = tuple(node for node in random_graph if not isinstance(node, TokenIn))
    executor = Executor(random_graph, inner)
    executor.run({Source("tokens"): random_graph.tensors["tokens.table"][ids].astype(np.int64)})
    with LavaNetwork(random_graph, granularity) as network:
        network.process(ids)
        state = network.state("layers.0.attn.mlgru")
    assert state["h"].any()
    np.testing.assert_array_equal(state["h"], executor.evaluators["layers.0.attn.mlgru"].variables["h"])

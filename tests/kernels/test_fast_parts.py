"""Plans over parts of a network, over slices of vectors, and with counters: every bit as NumPy gives it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from loihi_mmfree.compiler.artifact import Net
from loihi_mmfree.compiler.graph import Graph, Node, Source
from loihi_mmfree.compiler.nodes import (
    Delay,
    LogitsOut,
    NeuronGroup,
    TernarySynapse,
    TokenIn,
    block_of,
)
from loihi_mmfree.compiler.part import Part, PartExecutor
from loihi_mmfree.errors import SimulationError, UsageError
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.fixedpoint.program import Program, ProgramBuilder
from loihi_mmfree.fixedpoint.ternary import pack_ternary
from loihi_mmfree.sim.engine import Engine

pytest.importorskip("numba")

from loihi_mmfree.sim.fast import FastEngine
from loihi_mmfree.sim.fast_executor import FastExecutors

VOCABULARY = 19


def passes_on(bits: int) -> Program:
    builder = ProgramBuilder()
    builder.send("out", builder.input("value", bits))
    return builder.build()


def adds_up(inputs: int, bits: int) -> Program:
    """Halves the sum of a state and what arrives, keeps it, and sends it saturated."""
    builder = ProgramBuilder()
    total = builder.state("kept", 24)
    for number in range(inputs):
        total = builder.add(total, builder.input(f"value{number}", 24), bits=26)
    kept = builder.shift(total, 1, bits=24)
    builder.store("kept", kept)
    builder.send("out", builder.saturate(kept, bits))
    return builder.build()


def group(name: str, size: int, program: Program, *inputs: Source) -> NeuronGroup:
    return NeuronGroup(name, inputs, "Relay", size, program, (), (), ())


def sliced_graph(size: int, rows: int, slices: tuple[tuple[int, int], ...], bits: int, relayed: bool) -> Graph:
    """Tokens -> group -> a synapse for each slice -> a group that adds them up -> head."""
    random = np.random.default_rng(size)
    limit = 2 ** (bits - 1)
    tensors = {
        "table": random.integers(-limit, limit, (VOCABULARY, size)).astype(np.int16),
        "head": pack_ternary(random.integers(-1, 2, (VOCABULARY, rows)).astype(np.int8)),
    }
    nodes: list[Node] = [
        TokenIn("tokens", (), size, "table"),
        group("first", size, passes_on(bits), Source("tokens")),
    ]
    parts: list[Source] = []
    for number, (first, columns) in enumerate(slices):
        key = f"codes{number}"
        tensors[key] = pack_ternary(random.integers(-1, 2, (rows, columns)).astype(np.int8))
        nodes.append(TernarySynapse(f"part{number}", (Source("first"),), rows, columns, key, first, size))
        if relayed:
            nodes.append(group(f"relay{number}", rows, passes_on(24), nodes[-1].out()))
            nodes.append(Delay(f"wire{number}", (nodes[-1].out(),), rows, 1))
        parts.append(nodes[-1].out())
    nodes.append(group("sum", rows, adds_up(len(parts), bits), *parts))
    nodes.append(TernarySynapse("lm_head", (Source("sum"),), VOCABULARY, rows, "head", 0, rows))
    nodes.append(LogitsOut("logits", (Source("lm_head"),), VOCABULARY, 1.0))
    graph = Graph(tuple(nodes), tensors)
    graph.check()
    return graph


SLICES = [
    (8, ((0, 4), (4, 4))),
    (37, ((0, 16), (16, 21))),
    (37, ((4, 9), (8, 29), (0, 37))),
    (300, ((0, 128), (128, 128), (256, 44))),
    (523, ((260, 263), (0, 260))),
    (700, ((0, 64), (0, 700), (64, 1))),
]


@pytest.mark.parametrize("relayed", [False, True])
@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize(("size", "slices"), SLICES)
@pytest.mark.parametrize("threads", [1, 2])
def test_synapses_may_read_slices(
    size: int, slices: tuple[tuple[int, int], ...], bits: int, relayed: bool, threads: int
) -> None:
    graph = sliced_graph(size, 33 if size < 100 else 130, slices, bits, relayed)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, 45)
    specification, fast = Engine(graph, strict=True), FastEngine(graph, strict=True, threads=threads)
    for part in (ids[:1], ids[1:18], ids[18:19], ids[19:]):
        np.testing.assert_array_equal(fast.process(part), specification.process(part))
    assert fast.counters == specification.counters
    np.testing.assert_array_equal(fast.state("sum")["kept"], specification.state("sum")["kept"])
    fast.close()


def blocks_of(graph: Graph) -> dict[str, tuple[Node, ...]]:
    blocks: dict[str, list[Node]] = {}
    for node in graph:
        if not isinstance(node, TokenIn | LogitsOut):
            blocks.setdefault(block_of(node.name), []).append(node)
    return {name: tuple(nodes) for name, nodes in blocks.items()}


@pytest.fixture
def executors() -> Iterator[FastExecutors]:
    """What makes executors; its threads end with the test."""
    made = FastExecutors()
    yield made
    made.close()


def test_every_block_gives_what_numpy_gives(tiny_net: Net, executors: FastExecutors) -> None:
    graph = tiny_net.graph
    rows = graph.tensors["tokens.table"][np.array([5, 300, 77, 5, 12])]
    parts = [Part.of(graph, nodes) for nodes in blocks_of(graph).values()]
    fast = [executors(part, True) for part in parts]
    specification = [PartExecutor(part, True) for part in parts]
    for row in rows:
        values: dict[Source, np.ndarray] = {Source("tokens"): row}
        for part, *both in zip(parts, fast, specification, strict=True):
            found, expected = (each.step([values[source] for source in part.inputs]) for each in both)
            for source, value, other in zip(part.results, found, expected, strict=True):
                np.testing.assert_array_equal(value, other, err_msg=str(source))
                values[source] = value
    for one, other in zip(fast, specification, strict=True):
        assert one.counters == other.counters
        for node, states in other.variables.items():
            np.testing.assert_array_equal(one.variables[node]["h"], states["h"])


def test_a_part_with_a_broken_table_names_the_node(tiny_net: Net, executors: FastExecutors) -> None:
    graph = Graph(tiny_net.graph.nodes, {**tiny_net.graph.tensors, "tables.sigmoid": np.zeros(1, dtype=np.int32)})
    part = Part.of(graph, blocks_of(graph)["layers.0"])
    with pytest.raises(SimulationError, match=r"layers\.0\.attn\.mlgru: a table was read outside"):
        executors(part, False).step([np.full(part.size_of(source), 900) for source in part.inputs])


def test_a_part_beyond_the_kernels_is_refused(tiny_net: Net, executors: FastExecutors) -> None:
    tokens = tiny_net.graph.by_name["tokens"]
    with pytest.raises(UsageError, match="tokens: TokenIn has no kernel; use --kernels numpy"):
        executors(Part.of(tiny_net.graph, [tokens]), False)


def messages_by_numpy(graph: Graph, ids: np.ndarray) -> np.ndarray:
    counted = []

    def count(source: Source, values: np.ndarray) -> None:
        if isinstance(graph.by_name[source.node], NeuronGroup):
            counted.append(np.count_nonzero(values, axis=1))

    Engine(graph).process(ids, count)
    return np.stack(counted, axis=1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("last_only", [False, True])
def test_every_tokens_messages_are_counted_exactly(tiny_net: Net, threads: int, last_only: bool) -> None:
    ids = np.random.default_rng(1).integers(0, 512, 150)
    fast = FastEngine(tiny_net.graph, threads=threads, count_messages=True)
    fast.process(ids[:1])
    fast.process(ids[1:141], last_only=last_only)
    fast.process(ids[141:144], last_only=last_only)
    fast.process(ids[144:], tap=lambda source, values: None)
    np.testing.assert_array_equal(fast.messages, messages_by_numpy(tiny_net.graph, ids))
    fast.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_counters_stand_by_node_as_numpy_gives_them(threads: int) -> None:
    random = np.random.default_rng(3)
    size = 200
    tensors: dict[str, np.ndarray] = {
        "table": random.integers(-(2**23), 2**23, (VOCABULARY, size)).astype(np.int32),
        "head": pack_ternary(random.integers(-1, 2, (VOCABULARY, size)).astype(np.int8)),
    }
    nodes = (
        TokenIn("tokens", (), size, "table"),
        group("first", size, passes_on(24), Source("tokens")),
        group("clamps", size, adds_up(1, 12), Source("first")),
        TernarySynapse("overflows", (Source("first"),), VOCABULARY, size, "head", 0, size),
        LogitsOut("logits", (Source("overflows"),), VOCABULARY, 1.0),
    )
    specification = Engine(Graph(nodes, tensors), strict=True)
    fast = FastEngine(specification.graph, strict=True, threads=threads)
    for length in (70, 1, 3):
        ids = random.integers(0, VOCABULARY, length)
        np.testing.assert_array_equal(fast.process(ids), specification.process(ids))
    counted = {node: each for node, each in specification.node_counters.items() if each != Counters()}
    assert set(counted) == {"clamps", "overflows"}
    assert fast.node_counters == counted
    assert fast.counters == specification.counters
    fast.close()


def test_counting_changes_nothing(tiny_net: Net) -> None:
    ids = np.random.default_rng(2).integers(0, 512, 20)
    plain, counting = FastEngine(tiny_net.graph), FastEngine(tiny_net.graph, count_messages=True)
    np.testing.assert_array_equal(counting.process(ids), plain.process(ids))
    with pytest.raises(UsageError, match="count_messages=True"):
        _ = plain.messages

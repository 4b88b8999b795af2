"""Plans over parts of a network, over slices of vectors, and with counters: every bit as NumPy gives it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from loihi_mmfree.activity.observer import NOBODY, Observer
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.errors import SimulationError, UsageError
from loihi_mmfree.fixedpoint.program import Program, ProgramBuilder
from loihi_mmfree.fixedpoint.ternary import pack_ternary
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import LogitsOut, NeuronGroup, Role, TokenIn, block_of
from loihi_mmfree.ir.part import Part, PartExecutor
from loihi_mmfree.ir.synapses import Delay, SumSynapse, TernarySynapse
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.engine.specification import Engine

pytest.importorskip("numba")

from loihi_mmfree.sim.engine.compiled import FastEngine
from loihi_mmfree.sim.engine.core import FastCore
from loihi_mmfree.sim.engine.part_executor import FastExecutors

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
    return NeuronGroup(name, inputs, Role.RELAY, size, program, (), (), ())


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
    with pytest.raises(UsageError, match="tokens: TokenIn has no kernel; use `kernels='numpy'`"):
        executors(Part.of(tiny_net.graph, [tokens]), False)


def ignore(_: np.ndarray) -> None:
    """Take the logits of every token, and do nothing with them."""


def messages_by_numpy(graph: Graph, ids: np.ndarray) -> np.ndarray:
    counted: list[list[np.ndarray]] = []

    def count(source: Source, values: np.ndarray) -> None:
        if isinstance(graph.by_name[source.node], NeuronGroup):
            counted[-1].append(np.count_nonzero(values, axis=1))

    engine = Engine(graph, observer=Observer(values=count))
    for some in np.split(ids, range(10, len(ids), 10)):
        counted.append([])
        engine.read(some)
    return np.concatenate([np.stack(each, axis=1) for each in counted])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("last_only", [False, True])
def test_every_tokens_messages_are_counted_exactly(tiny_net: Net, threads: int, last_only: bool) -> None:
    ids = np.random.default_rng(1).integers(0, 512, 150)
    recorder = ActivityRecorder(tiny_net.graph)
    fast = FastEngine(tiny_net.graph, threads=threads, observer=recorder.observer)
    for part in (ids[:1], ids[1:141], ids[141:144], ids[144:]):
        fast.read(part, None if last_only else ignore)
    np.testing.assert_array_equal(recorder.activity().by_token, messages_by_numpy(tiny_net.graph, ids))
    fast.close()


def clamps_what_is_alike() -> Program:
    """Passes its input on; beside it, what is the same for all neurons is clamped and overflows."""
    builder = ProgramBuilder()
    builder.send("out", builder.input("value", 24))
    clamped = builder.saturate(builder.immediate(100), 4)
    builder.send("alike", builder.add(clamped, clamped, bits=4))
    return builder.build()


def counting_graph(size: int) -> Graph:
    """Every kind of node that counts, each of which has something to count at some tokens."""
    random = np.random.default_rng(3)
    tensors: dict[str, np.ndarray] = {
        "table": random.integers(-(2**23), 2**23, (VOCABULARY, size)).astype(np.int32),
        "head": pack_ternary(random.integers(-1, 2, (VOCABULARY, size)).astype(np.int8)),
    }
    nodes = (
        TokenIn("tokens", (), size, "table"),
        group("first", size, clamps_what_is_alike(), Source("tokens")),
        group("clamps", size, adds_up(1, 12), Source("first")),
        SumSynapse("sum", (Source("first"),), size),
        group("single", 1, narrows(30, 26), Source("sum")),
        group("last", size, passes_on(24), Source("first")),
        TernarySynapse("products", (Source("last"),), VOCABULARY, size, "head", 0, size),
        LogitsOut("logits", (Source("products"),), VOCABULARY, 1.0),
    )
    return Graph(nodes, tensors)


def narrows(bits: int, least: int) -> Program:
    """One input, which may overflow, sent saturated."""
    builder = ProgramBuilder()
    builder.send("out", builder.saturate(builder.input("value", bits), least))
    return builder.build()


def counted_by_numpy(graph: Graph, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Saturations and overflows [T, 2] of every node."""
    found: dict[str, list[np.ndarray]] = {}
    observer = Observer(incidents=lambda node, counts: found.setdefault(node, []).append(counts))
    Engine(graph, strict=True, observer=observer).read(ids)
    return {node: np.concatenate(counts) for node, counts in found.items()}


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_saturations_and_overflows_stand_by_token_and_node_as_numpy_gives_them(
    threads: int, last_only: bool
) -> None:
    graph = counting_graph(200)
    ids = np.random.default_rng(4).integers(0, VOCABULARY, 90)
    recorder = ActivityRecorder(graph)
    fast = FastEngine(graph, strict=True, threads=threads, observer=recorder.observer)
    for part in (ids[:70], ids[70:71], ids[71:73]):
        fast.read(part, None if last_only else ignore)
    fast.read(ids[73:], ignore)
    incidents = recorder.activity().incidents
    found = np.zeros((90, len(incidents.nodes), 2), dtype=np.int64)
    for token, node, *counts in incidents.rows:
        found[token, node] += counts
    expected = counted_by_numpy(graph, ids)
    assert {node for node, counts in expected.items() if counts.any()} == {
        "first", "clamps", "sum", "single", "products",
    }  # fmt: skip
    if last_only:
        # Of the first 64 tokens, which go through together, the last one's logits alone are computed.
        expected["products"][:63] = 0
    for number, node in enumerate(incidents.nodes):
        np.testing.assert_array_equal(found[:, number], expected[node], err_msg=node)
    fast.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_last_logits_alone_where_others_read_what_the_head_reads(threads: int) -> None:
    graph = counting_graph(200)
    products = graph.by_name["products"]
    graph = graph.with_nodes(
        replace(node, inputs=(Source("first"),)) if node is products else node for node in graph
    )
    ids = np.random.default_rng(4).integers(0, VOCABULARY, 90)
    fast = FastEngine(graph, threads=threads)
    np.testing.assert_array_equal(fast.read(ids), Engine(graph).process(ids)[-1])
    fast.close()


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_totals_are_those_of_numpy_whether_tokens_are_recorded_or_not(threads: int, record: bool) -> None:
    graph = counting_graph(200)
    ids = np.random.default_rng(4).integers(0, VOCABULARY, 90)
    observer = ActivityRecorder(graph).observer if record else NOBODY
    specification, fast = Engine(graph, strict=True), FastEngine(graph, True, threads, observer)
    for part in (ids[:70], ids[70:71], ids[71:]):
        np.testing.assert_array_equal(fast.process(part), specification.process(part))
    assert fast.counters == specification.counters
    fast.close()


@pytest.mark.parametrize("reader", ["count_messages", "count_incidents"])
def test_a_call_interrupted_before_its_counts_were_read_leaves_none_behind(
    monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    def interrupt(core: FastCore, tokens: int) -> None:
        raise KeyboardInterrupt

    graph = counting_graph(200)
    ids = np.random.default_rng(4).integers(0, VOCABULARY, 90)
    recorders = [ActivityRecorder(graph) for _ in range(2)]
    fast, fresh = (FastEngine(graph, strict=True, observer=each.observer) for each in recorders)
    with monkeypatch.context() as patch:
        patch.setattr(FastCore, reader, interrupt)
        with pytest.raises(KeyboardInterrupt):
            fast.process(ids)
    for engine in (fast, fresh):
        engine.reset()
        engine.process(ids[70:])
    one, other = (recorder.activity() for recorder in recorders)
    np.testing.assert_array_equal(one.by_token, other.by_token)
    assert one == other


def test_counting_changes_nothing(tiny_net: Net) -> None:
    ids = np.random.default_rng(2).integers(0, 512, 20)
    observer = ActivityRecorder(tiny_net.graph).observer
    plain, counting = FastEngine(tiny_net.graph), FastEngine(tiny_net.graph, observer=observer)
    np.testing.assert_array_equal(counting.process(ids), plain.process(ids))

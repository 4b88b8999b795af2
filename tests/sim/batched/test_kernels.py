"""The generated kernels give every bit that the specification gives: on a GPU, or in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.pipeline import compile_graph
from loihi_mmfree.errors import SimulationError
from loihi_mmfree.fixedpoint.operations import OPERATIONS, Operand, Operation, Result
from loihi_mmfree.fixedpoint.program import Program, ProgramBuilder
from loihi_mmfree.fixedpoint.ternary import pack_ternary
from loihi_mmfree.ir.graph import Graph, Node
from loihi_mmfree.ir.nodes import LogitsOut, NeuronGroup, Role, TokenIn
from loihi_mmfree.ir.synapses import Broadcast, SumSynapse, TernarySynapse
from loihi_mmfree.sim.batched.engine import BatchedEngine, BatchLogits
from loihi_mmfree.sim.batched.regions import NoKernelError, schedule
from loihi_mmfree.sim.engine.specification import Engine

pytest.importorskip("triton")

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
VOCABULARY = 29


def run(graph: Graph, lengths: tuple[int, ...], seed: int = 0) -> tuple[list[np.ndarray], BatchedEngine]:
    """Read random sequences with kernels and return their logits, and the engine."""
    engine = BatchedEngine(graph, DEVICE, eager=False)
    sequences = sequences_of(graph, lengths, seed)
    width = graph.by_name["logits"].size
    found = [np.full((len(ids), width), 7, dtype=np.int32) for ids in sequences]

    def take(logits: BatchLogits) -> None:
        for row, sequence, position in zip(logits.values.cpu(), logits.sequences, logits.positions, strict=True):
            found[sequence][position] = row

    engine.begin(len(lengths))
    engine.read_batch(sequences, take)
    return found, engine


def sequences_of(graph: Graph, lengths: tuple[int, ...], seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    rows = len(graph.tensors[graph.by_name["tokens"].table])
    return [random.integers(0, rows, length) for length in lengths]


def assert_equal_to_specification(graph: Graph, lengths: tuple[int, ...], seed: int = 0) -> None:
    """Also every counter."""
    graph.check()
    found, engine = run(graph, lengths, seed)
    specification = Engine(graph, strict=True)
    for logits, ids in zip(found, sequences_of(graph, lengths, seed), strict=True):
        if len(ids):
            specification.reset()
            np.testing.assert_array_equal(logits, specification.process(ids))
    assert engine.counters == specification.counters


def group(name: str, reads: Node, program: Program, size: int, **parameters: np.ndarray) -> NeuronGroup:
    inputs = tuple(reads.out() for _ in program.inputs)
    constants = tuple((each, each) for each in program.constants)
    tables = tuple((each, each) for each in program.tables)
    return NeuronGroup(name, inputs, Role.SCALE, size, program, constants, tables, ())


def graph_of(program: Program, size: int, seed: int, sent: str = "out") -> Graph:
    """Tokens, a group that runs the program on them, and one of its messages as logits."""
    random = np.random.default_rng(seed)
    tokens = TokenIn("tokens", (), size, "table")
    body = group("body", tokens, program, size)
    tensors = {
        "table": random.integers(-(2**15), 2**15, (VOCABULARY, size)).astype(np.int32),
        "each": random.integers(-2047, 2048, size).astype(np.int32),
        "all": np.array([99], dtype=np.int32),
        "cubes": (np.arange(-50, 47) ** 3).astype(np.int32),
    }
    return Graph((tokens, body, LogitsOut("logits", (body.out(sent),), size, 1.0)), tensors)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("lengths", [(1, 1), (3, 0, 2)])
def test_random_programs(random_program: Callable[..., Program], seed: int, lengths: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    size, sent = int(random.choice([1, 3, 64, 130])), str(random.choice(["out", "late", "still"]))
    assert_equal_to_specification(graph_of(random_program(seed), size, seed, sent), lengths, seed)


@pytest.fixture(scope="module")
def small_graph(make_checkpoint: Callable[..., Checkpoint]) -> Graph:
    """A whole network of random weights, compiled."""
    return compile_graph(make_checkpoint(num_hidden_layers=1), CompileConfig(), np.arange(128) % 32).graph


@pytest.mark.parametrize("lengths", [(1, 1), (3, 1, 0, 2)])
def test_a_whole_network(small_graph: Graph, lengths: tuple[int, ...]) -> None:
    assert_equal_to_specification(small_graph, lengths)


def test_prompt_and_single_tokens_go_on_from_each_other(small_graph: Graph) -> None:
    ids = np.random.default_rng(3).integers(0, 32, 5)
    engine, specification = BatchedEngine(small_graph, DEVICE, eager=False), Engine(small_graph)
    found = [engine.process(part) for part in np.split(ids, [2, 3, 4])]
    np.testing.assert_array_equal(np.concatenate(found), specification.process(ids))


def test_activations_of_sixteen_bits_are_multiplied_digit_by_digit(
    make_checkpoint: Callable[..., Checkpoint],
) -> None:
    config = replace(CompileConfig(), quantization=replace(CompileConfig().quantization, activation_bits=16))
    graph = compile_graph(make_checkpoint(num_hidden_layers=1), config, np.arange(128) % 32).graph
    assert_equal_to_specification(graph, (2,))


def product_of(values: np.ndarray, columns: slice, bits: int) -> Graph:
    """Tokens sent as they are, and a product of some columns."""
    b = ProgramBuilder()
    b.send("out", b.input("a", bits))
    size = values.shape[1]
    tokens = TokenIn("tokens", (), size, "table")
    body = group("body", tokens, b.build(), size)
    width = columns.stop - columns.start
    codes = np.random.default_rng(1).integers(-1, 2, (7, width), dtype=np.int8)
    codes[0], codes[1] = 1, -1
    product = TernarySynapse("product", (body.out(),), 7, width, "codes", columns.start, size)
    tensors = {"table": values.astype(np.int32), "codes": pack_ternary(codes)}
    return Graph((tokens, body, product, LogitsOut("logits", (product.out(),), 7, 1.0)), tensors)


@pytest.mark.parametrize("columns", [slice(0, 70), slice(4, 37), slice(8, 9)])
@pytest.mark.parametrize("bits", [8, 12, 13, 16, 24])
def test_products_of_any_slice_and_width(columns: slice, bits: int) -> None:
    limit = (1 << (bits - 1)) - 1
    values = np.random.default_rng(0).integers(-limit, limit, (VOCABULARY, 70), endpoint=True)
    values[0], values[1] = limit, -limit
    assert_equal_to_specification(product_of(values, columns, bits), (6, 2))


def test_sums_and_broadcasts_within_a_kernel() -> None:
    b = ProgramBuilder()
    b.send("out", b.shift(b.input("a", 24), 3))
    c = ProgramBuilder()
    c.send("out", c.add(c.input("a", 21), c.immediate(5)))
    tokens = TokenIn("tokens", (), 70, "table")
    total = SumSynapse("sum", (tokens.out(),), 70)
    one = group("one", total, b.build(), 1)
    spread = Broadcast("spread", (one.out(),), 70)
    many = group("many", spread, c.build(), 70)
    table = np.random.default_rng(0).integers(-(2**15), 2**15, (VOCABULARY, 70)).astype(np.int32)
    nodes = (tokens, total, one, spread, many, LogitsOut("logits", (many.out(),), 70, 1.0))
    graph = Graph(nodes, {"table": table})
    assert len(schedule(graph, walks=True).steps) == 1
    assert_equal_to_specification(graph, (4, 2))


def test_sums_wider_than_an_accumulator_are_counted() -> None:
    values = np.full((VOCABULARY, 70), 2**22, dtype=np.int64)
    values[::2] = 5
    assert_equal_to_specification(product_of(values, slice(0, 68), bits=24), (6, 2))


def test_a_table_read_outside_its_entries_says_what_is_wrong() -> None:
    b = ProgramBuilder()
    b.send("out", b.table("cubes", b.input("a", 24), bits=20))
    with pytest.raises(SimulationError, match="body: a index into table is outside of 0 to 96"):
        run(graph_of(b.build(), 5, seed=0), (2,))


def test_an_operation_without_a_rule_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Operation((Operand("a"),), "a", Result(lambda _, a: a, lambda _, a: a, width=lambda _, a: a))
    monkeypatch.setitem(OPERATIONS, "repeat", identity)
    b = ProgramBuilder()
    b.send("out", b.write("repeat", b.input("a", 16)))
    graph = graph_of(b.build(), 5, seed=0)
    with pytest.raises(NotImplementedError, match=r"rules\.py\) has no rule for the operation 'repeat'"):
        BatchedEngine(graph, torch.device("cpu"), eager=True).process(np.array([1]))
    with pytest.raises(NotImplementedError, match="no rule for the operation 'repeat'"):
        BatchedEngine(graph, DEVICE, eager=False)


def test_a_kind_of_node_without_a_kernel_is_refused_by_name() -> None:
    class Antenna(Node):
        pass

    with pytest.raises(NoKernelError, match="mast: Antenna has no kernel"):
        schedule(Graph((Antenna("mast", ()),), {}), walks=True)

"""Networks of any shape without a checkpoint, and a count of synapses one by one to hold placement against."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest

from loihi_mmfree.compiler import programs
from loihi_mmfree.compiler.passes.balance_delays import balance_delays
from loihi_mmfree.fixedpoint import tables
from loihi_mmfree.fixedpoint.program import Program
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.fixedpoint.requantizer import Requantizer
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import LogitsOut, NeuronGroup, Role, TokenIn
from loihi_mmfree.ir.synapses import Broadcast, Delay, SumSynapse, Synapse, TernarySynapse
from loihi_mmfree.loihi2.hardware import LOIHI2, ChipSpec
from loihi_mmfree.place.placement import Placement

VALUE, ACTIVATION = QFormat(16, 10), QFormat(12, 8)
REQUANTIZER = Requantizer.from_scale(0.01)
TABLES = {"sigmoid": tables.sigmoid_table(), "rsqrt": tables.rsqrt_table()}


class NetworkBuilder:
    """Appends the nodes of a MatMul-free language model, as lowering does."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.tensors: dict[str, np.ndarray] = {f"tables.{name}": table for name, table in TABLES.items()}

    def group(self, name: str, role: Role, size: int, program: Program, inputs: Iterable[Source]) -> None:
        for constant in program.constants:
            self.tensors[f"{name}.{constant}"] = np.broadcast_to(np.int32(1), (size,))
        constants = tuple((each, f"{name}.{each}") for each in program.constants)
        lookups = tuple((each, f"tables.{each}") for each in program.tables)
        self.nodes.append(NeuronGroup(name, tuple(inputs), role, size, program, constants, lookups, ()))

    def ternary(self, name: str, source: Source, rows: int, columns: int) -> Source:
        self.nodes.append(TernarySynapse(name, (source,), rows, columns, f"{name}.codes", 0, columns))
        return Source(name)

    def norm(self, name: str, value: str, columns: int, ports: Iterable[str]) -> str:
        """Sum of squares, inverse root, broadcast, scaling; return the name of the scaling group."""
        for part in ("high", "low"):
            source = Source(value, f"square_{part}")
            self.nodes.append(SumSynapse(f"{name}.rms.sum_{part}", (source,), columns))
        sums = [Source(f"{name}.rms.sum_{part}") for part in ("high", "low")]
        self.group(
            f"{name}.rms", Role.RMS_NORM, 1, programs.rms_program(squares(columns).half_bits, 1, LOIHI2), sums
        )
        for part in ("mantissa", "exponent"):
            self.nodes.append(Broadcast(f"{name}.rms.{part}", (Source(f"{name}.rms", part),), columns))
        program = programs.scale_program(
            VALUE, tuple(programs.ScaledPort(port, ACTIVATION, 14, 10) for port in ports), LOIHI2
        )
        roots = [Source(f"{name}.rms.{part}") for part in ("mantissa", "exponent")]
        self.group(f"{name}.scale", Role.SCALE, columns, program, [Source(value), *roots])
        return f"{name}.scale"

    def residual(self, name: str, stream: str, delta: Source, size: int) -> str:
        program = programs.residual_program(VALUE, VALUE, REQUANTIZER, squares(size), 10, LOIHI2)
        self.group(name, Role.RESIDUAL, size, program, [Source(stream), delta])
        return name

    def block(self, layer: int, stream: str, hidden: int, inner: int) -> str:
        base = f"layers.{layer}"
        scaled = self.norm(f"{base}.attn_norm", stream, hidden, ("i_proj", "f_proj", "g_proj"))
        gates = [
            self.ternary(f"{base}.attn.{part}_proj", Source(scaled, f"{part}_proj"), hidden, hidden)
            for part in "ifg"
        ]
        formats = programs.MlGruFormats(VALUE, VALUE, VALUE, VALUE, VALUE, REQUANTIZER, REQUANTIZER, gate_shift=14)
        mlgru = programs.mlgru_program(formats, layer > 0, squares(hidden), LOIHI2)
        self.group(f"{base}.attn.mlgru", Role.ML_GRU, hidden, mlgru, gates)
        scaled = self.norm(f"{base}.attn.o_proj.norm", f"{base}.attn.mlgru", hidden, ("o_proj",))
        delta = self.ternary(f"{base}.attn.o_proj", Source(scaled, "o_proj"), hidden, hidden)
        stream = self.residual(f"{base}.attn.residual", stream, delta, hidden)
        scaled = self.norm(f"{base}.mlp_norm", stream, hidden, ("gate_proj",))
        halves = [
            self.ternary(f"{base}.mlp.gate_proj.{part}", Source(scaled, "gate_proj"), inner, hidden)
            for part in ("gate", "up")
        ]
        glu = programs.glu_program(
            programs.GluFormats(VALUE, VALUE, VALUE, REQUANTIZER, REQUANTIZER), squares(inner), LOIHI2
        )
        self.group(f"{base}.mlp.glu", Role.GLU, inner, glu, halves)
        scaled = self.norm(f"{base}.mlp.down_proj.norm", f"{base}.mlp.glu", inner, ("down_proj",))
        delta = self.ternary(f"{base}.mlp.down_proj", Source(scaled, "down_proj"), hidden, inner)
        return self.residual(f"{base}.mlp.residual", stream, delta, hidden)

    def build(self, layers: int, hidden: int, inner: int, vocabulary: int) -> Graph:
        self.nodes.append(TokenIn("tokens", (), hidden, "tokens.table"))
        program = programs.embedding_program(VALUE, squares(hidden), 10)
        self.group("embeddings", Role.EMBEDDING, hidden, program, [Source("tokens")])
        stream = "embeddings"
        for layer in range(layers):
            stream = self.block(layer, stream, hidden, inner)
        scaled = self.norm("norm", stream, hidden, ("lm_head",))
        head = self.ternary("lm_head", Source(scaled, "lm_head"), vocabulary, hidden)
        self.nodes.append(LogitsOut("logits", (head,), vocabulary, 1.0))
        graph = balance_delays(Graph(tuple(self.nodes), self.tensors))
        graph.check()
        return graph


def squares(columns: int) -> programs.Squares:
    return programs.Squares(programs.square_half_bits(columns, LOIHI2), 0)


@pytest.fixture(scope="session")
def make_network() -> Callable[..., Graph]:
    """A function of layers, hidden size, inner size and vocabulary that returns a scheduled graph."""
    known: dict[tuple[int, ...], Graph] = {}

    def make(layers: int, hidden: int, inner: int, vocabulary: int) -> Graph:
        shape = (layers, hidden, inner, vocabulary)
        if shape not in known:
            known[shape] = NetworkBuilder().build(*shape)
        return known[shape]

    return make


# -- an independent count: every synapse of every neuron, one by one ------------------------------

Message = tuple[str, str, int]
"""Node, port and element."""
SynapseList = tuple[str, int, Message, int]
"""Group, number of its input, message and delay."""


def incoming(graph: Graph, node: Node) -> Iterator[tuple[int, int, Callable[[int], list[Message]]]]:
    """For each input: its number, its delay in steps, and what neuron j reads."""
    for number, source in enumerate(node.inputs):
        synapse = graph.by_name[source.node]
        if not isinstance(synapse, Synapse):
            yield number, 1, lambda j, s=source: [(s.node, s.port, j)]
            continue
        before = synapse.inputs[0]
        if isinstance(synapse, Delay):
            yield number, synapse.steps, lambda j, s=before: [(s.node, s.port, j)]
        elif isinstance(synapse, Broadcast):
            yield number, 1, lambda j, s=before: [(s.node, s.port, 0)]
        else:
            assert isinstance(synapse, TernarySynapse | SumSynapse)
            yield number, 1, lambda j, s=before, n=synapse.columns: [(s.node, s.port, k) for k in range(n)]


def placed(graph: Graph, head: str) -> list[Node]:
    in_head = ("norm", "norm.rms", "norm.scale", "logits")
    groups = [node for node in graph if isinstance(node, NeuronGroup | LogitsOut)]
    return [node for node in groups if head == "chip" or node.name not in in_head]


def ports(node: Node) -> list[str]:
    return list(node.outputs) or ["out"]


def synapses(graph: Graph, placement: Placement) -> tuple[dict[Message, set[int]], list[dict[SynapseList, int]]]:
    """Which cores (-1: the host) read each message, and how many synapses each list of each core holds."""
    place_of = {
        (shard.node, j): number
        for number, core in enumerate(placement.cores)
        for shard in core.shards
        for j in range(shard.first, shard.first + shard.count)
    }
    on_chip = {node.name for node in placed(graph, placement.head)}
    listens: dict[Message, set[int]] = defaultdict(set)
    lists: list[dict[SynapseList, int]] = [defaultdict(int) for _ in placement.cores]
    for node in graph:
        if not isinstance(node, NeuronGroup | LogitsOut):
            continue
        for number, steps, reads in incoming(graph, node):
            for j in range(node.size):
                core = place_of[node.name, j] if node.name in on_chip else -1
                for message in reads(j):
                    listens[message].add(core)
                    if core >= 0:
                        lists[core][node.name, number, message, steps] += 1
    return listens, lists


def count_all(graph: Graph, spec: ChipSpec, placement: Placement) -> list[dict[str, int]]:
    """What every core holds, from first principles."""
    listens, lists = synapses(graph, placement)
    return [
        _one_core(graph, spec, placement, number, lists[number], listens) for number in range(len(placement.cores))
    ]


def _one_core(
    graph: Graph,
    spec: ChipSpec,
    placement: Placement,
    number: int,
    lists: dict[SynapseList, int],
    listens: dict[Message, set[int]],
) -> dict[str, int]:
    shards = placement.cores[number].shards
    held = {shard.node: shard.count for shard in shards}
    weight = placement.weight_bits
    used: dict[str, int] = defaultdict(int)
    for (name, _, _, steps), targets in lists.items():
        delay = spec.delay_field_bytes.value if steps > 1 else 0
        dense = -(-held[name] * weight // 8) + held[name] * delay
        sparse = targets * (-(-weight // 8) + spec.sparse_index_bytes.value + delay)
        used["synapse_bytes"] += spec.axon_header_bytes.value + min(dense, sparse)
        used["operations"] += targets
    used["input_axons"] = len({message for _, _, message, _ in lists})
    for shard in shards:
        node = graph.by_name[shard.node]
        used["neurons"] += shard.count * len(ports(node))
        accumulators = sum(3 * steps for _, steps, _ in incoming(graph, node))
        instructions, kept, tables = 2, 0, 0
        if isinstance(node, NeuronGroup):
            instructions = len(node.program.instructions)
            kept = sum(-(-state.bits // 8) for state in node.program.states)
            bits = {
                each.operands[0]: each.bits for each in node.program.instructions if each.operation == "constant"
            }
            kept += sum(-(-width // 8) for width in bits.values())
            tables = sum(3 * len(graph.tensors[key]) for _, key in node.tables)
        used["state_bytes"] += shard.count * (accumulators + kept)
        used["program_bytes"] += instructions * spec.instruction_bytes.value
        used["table_bytes"] += tables
        for port in ports(node):
            for j in range(shard.first, shard.first + shard.count):
                readers = listens[node.name, port, j] if node.outputs else {-1}
                used["output_axons"] += len(readers)
    memory = ("synapse_bytes", "state_bytes", "program_bytes", "table_bytes")
    used["core_memory_bytes"] = sum(used[name] for name in memory)
    used["core_memory_bytes"] += used["output_axons"] * spec.output_axon_bytes.value
    return used


@pytest.fixture(scope="session")
def recount() -> Callable[..., list[dict[str, int]]]:
    """`count_all`: resources of every core of (graph, spec, placement), synapse by synapse."""
    return count_all


@pytest.fixture(scope="session")
def listeners() -> Callable[..., dict[Message, set[int]]]:
    """A function of graph and placement: the cores that read each message, -1 for the host."""
    return lambda graph, placement: synapses(graph, placement)[0]


@pytest.fixture(scope="session")
def on_chip() -> Callable[..., list[Node]]:
    """`placed`: the groups that belong on chip, for a graph and where its head is."""
    return placed

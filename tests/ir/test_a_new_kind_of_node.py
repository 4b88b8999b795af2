"""A kind of node that nobody knows: each consumer supports it by what the class says, or refuses it by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import pytest

from loihi_mmfree.activity.counts import synaptic_operations, worst_case
from loihi_mmfree.compiler.bounds import bound_violations, propagate
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.program import ProgramBuilder
from loihi_mmfree.fixedpoint.ternary import pack_ternary
from loihi_mmfree.ir.contract import Bounds, Evaluator, ReceptiveField
from loihi_mmfree.ir.evaluators import SummingEvaluator
from loihi_mmfree.ir.executor import Executor, counting_nodes
from loihi_mmfree.ir.graph import Graph, Node, Source, Tensors
from loihi_mmfree.ir.nodes import LogitsOut, NeuronGroup, Role, TokenIn
from loihi_mmfree.ir.part import Part
from loihi_mmfree.ir.schedule import depth, offsets
from loihi_mmfree.ir.serialize import graph_from_data, graph_to_data
from loihi_mmfree.ir.synapses import Synapse, TernarySynapse
from loihi_mmfree.loihi2.hardware import LOIHI2, ChipSpec
from loihi_mmfree.place.connections import connections, placeable
from loihi_mmfree.place.layout import Request
from loihi_mmfree.place.placer import place
from loihi_mmfree.sim.engine.plan import NotPlannedError, make_plan

SIZE, WINDOW = 8, 3


@dataclass(frozen=True)
class Window(Synapse):
    """Each neuron reads the sum of the same first few elements, after two time steps."""

    size: int

    @property
    def outputs(self) -> Mapping[str, int]:
        return {"out": self.size}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        return (self.size,)

    @property
    def latency(self) -> int:
        return 2

    @property
    def field(self) -> ReceptiveField:
        return ReceptiveField(0, WINDOW)

    @property
    def fan_out(self) -> float:
        return WINDOW

    def bounds(self, tensors: Tensors, inputs: Sequence[Interval], chip: ChipSpec) -> Bounds:
        low, high = (
            np.broadcast_to(end, self.size)[:WINDOW].sum(keepdims=True) for end in (inputs[0].low, inputs[0].high)
        )
        return self._summed(Interval(low, high), chip)

    def evaluator(self, tensors: Tensors, chip: ChipSpec, strict: bool) -> Evaluator:
        return SummingEvaluator(
            lambda values: np.repeat(values[:, :WINDOW].sum(axis=1, keepdims=True), self.size, axis=1),
            chip.accumulator_bits.value,
            strict,
        )

    def synapses(self, tensors: Tensors) -> int:
        return WINDOW * self.size


@dataclass(frozen=True)
class Mystery(Node):
    """A kind of node that says nothing of itself but its sizes."""

    @property
    def outputs(self) -> Mapping[str, int]:
        return {"out": SIZE}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        return (SIZE,)


def graph_with(make: Callable[[str, Source], Node]) -> Graph:
    """A token, a group, the new node, a group, and logits."""

    def group(name: str, source: Source) -> NeuronGroup:
        b = ProgramBuilder()
        b.send("out", b.input("value", 20))
        return NeuronGroup(name, (source,), Role.RELAY, SIZE, b.build(), (), (), ())

    first = group("layers.0.first", Source("tokens"))
    new = make("layers.0.new", first.out())
    second = group("layers.0.second", new.out())
    head = TernarySynapse("lm_head", (second.out(),), 5, SIZE, "codes", 0, SIZE)
    nodes = (
        TokenIn("tokens", (), SIZE, "table"),
        first,
        new,
        second,
        head,
        LogitsOut("logits", (head.out(),), 5, 1.0),
    )
    table = np.arange(4 * SIZE, dtype=np.int16).reshape(4, SIZE)
    graph = Graph(nodes, {"table": table, "codes": pack_ternary(np.ones((5, SIZE), dtype=np.int8))})
    graph.check()
    return graph


@pytest.fixture
def graph() -> Graph:
    return graph_with(lambda name, source: Window(name, (source,), SIZE))


@pytest.fixture
def mysterious() -> Graph:
    return graph_with(lambda name, source: Mystery(name, (source,)))


class TestSupported:
    def test_by_the_executor_and_its_counting(self, graph: Graph) -> None:
        narrow = replace(graph, chip=replace(LOIHI2, accumulator_bits=replace(LOIHI2.accumulator_bits, value=5)))
        executor = Executor(narrow, narrow.nodes[1:], strict=True)
        rows = graph.tensors["table"].astype(np.int64)
        sums = executor.run({Source("tokens"): rows}, [Source("layers.0.new")])[Source("layers.0.new")]
        assert sums[:, 0].tolist() == [0 + 1 + 2, 8 + 9 + 10, 16 + 17 + 18, 24 + 25 + 26]
        # Five bits hold up to 15: the sums of three tokens do not fit, at eight neurons.
        assert executor.evaluators["layers.0.new"].counters == Counters(0, 3 * SIZE)
        assert "layers.0.new" in counting_nodes(graph)

    def test_by_the_proof(self, graph: Graph) -> None:
        found = {node.name: outputs["out"].highest for node, _, (outputs, _) in propagate(graph) if node.outputs}
        assert found["layers.0.new"] == WINDOW * (4 * SIZE - 1)
        assert bound_violations(graph) == []

    def test_by_the_schedule(self, graph: Graph) -> None:
        assert offsets(graph)["layers.0.second"] == 2
        assert depth(graph) == 3

    def test_by_placement_and_activity(self, graph: Graph) -> None:
        (connection,) = connections(graph, placeable(graph, "layers.0.second"))
        assert (connection.columns, connection.latency, connection.synapses(SIZE)) == (WINDOW, 2, WINDOW * SIZE)
        assert place(graph, LOIHI2, Request(weight_bits=8)).cores_used >= 1
        assert synaptic_operations(graph, worst_case(graph).rates)["layers.0.new"] == SIZE * WINDOW


class TestRefusedByName:
    def test_by_the_kernels(self, graph: Graph) -> None:
        with pytest.raises(NotPlannedError, match=r"layers\.0\.new: Window has no kernel"):
            make_plan(Part.between_the_hosts_ends(graph), 1, 1, strict=True)

    def test_by_whoever_reads_a_graph(self, graph: Graph) -> None:
        with pytest.raises(ValueError, match="'Window' is no kind of node; known: TokenIn"):
            graph_from_data(json.loads(json.dumps(graph_to_data(graph))), graph.tensors)

    @pytest.mark.skipif(find_spec("lava") is None, reason="Lava is not installed")
    def test_by_lava(self, graph: Graph) -> None:
        from loihi_mmfree.sim.lava.graph import build

        with pytest.raises(TypeError, match=r"layers\.0\.new: no Lava process is known for a Window"):
            build(graph, "operator", strict=True)

    def test_by_the_executor(self, mysterious: Graph) -> None:
        with pytest.raises(TypeError, match=r"layers\.0\.new: Mystery declares no evaluation"):
            Executor(mysterious, mysterious.nodes[1:])

    def test_by_the_proof(self, mysterious: Graph) -> None:
        with pytest.raises(TypeError, match=r"layers\.0\.new: Mystery declares no bounds"):
            bound_violations(mysterious)

    def test_by_placement(self, mysterious: Graph) -> None:
        with pytest.raises(TypeError, match=r"layers\.0\.new: a Mystery has no neurons to place"):
            placeable(mysterious, "layers.0.new")

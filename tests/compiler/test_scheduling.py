"""Time: when each node hears its inputs, and the delays that let branches meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.passes.balance_delays import balance_delays
from loihi_mmfree.fixedpoint.program import Program, ProgramBuilder
from loihi_mmfree.ir.executor import Executor
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import NeuronGroup, Role, TokenIn
from loihi_mmfree.ir.schedule import depth, offsets
from loihi_mmfree.ir.synapses import Broadcast, Delay, Synapse, TernarySynapse
from loihi_mmfree.sim.engine.specification import Engine


def sender() -> Program:
    builder = ProgramBuilder()
    builder.send("out", builder.input("x", 8))
    return builder.build()


def adder(inputs: int) -> Program:
    builder = ProgramBuilder()
    registers = [builder.input(f"x{n}", 8) for n in range(inputs)]
    total = registers[0]
    for register in registers[1:]:
        total = builder.add(total, register)
    builder.send("out", total)
    return builder.build()


def group(name: str, program: Program, *inputs: str) -> NeuronGroup:
    return NeuronGroup(name, tuple(Source(each) for each in inputs), Role.GLU, 1, program, (), (), ())


def branches(hops: int) -> Graph:
    """A group that is heard at once by another and, over a chain of `hops` synapses, once more."""
    chain = [Broadcast(f"hop{n}", (Source(f"hop{n - 1}" if n else "first"),), 1) for n in range(hops)]
    last = group("last", adder(2), "first", chain[-1].name)
    return Graph((TokenIn("tokens", (), 1, "table"), group("first", sender(), "tokens"), *chain, last), {})


class TestOffsets:
    def test_a_synapse_takes_one_step_and_a_group_none(self) -> None:
        nodes = branches(3).nodes[:-1]
        assert offsets(Graph(nodes, {})) == {"tokens": 0, "first": 0, "hop0": 0, "hop1": 1, "hop2": 2}

    def test_inputs_that_arrive_at_different_times_are_refused_by_name(self) -> None:
        with pytest.raises(ValueError, match="last: inputs arrive in different time steps") as raised:
            offsets(branches(3))
        assert "{'first:out': 0, 'hop2:out': 3}" in str(raised.value)

    def test_before_delays_are_put_in_a_lowered_network_does_not_meet(self, lowered: Any) -> None:
        with pytest.raises(ValueError, match="different time steps"):
            offsets(lowered.unscheduled)


class TestDelays:
    def test_the_shorter_branch_waits_for_the_longer(self) -> None:
        balanced = balance_delays(branches(3))
        balanced.check()
        delays = [node for node in balanced if isinstance(node, Delay)]
        assert [(node.name, node.steps, node.inputs) for node in delays] == [
            ("last.x0_delay", 3, (Source("first"),))
        ]
        assert offsets(balanced)["last"] == 3

    def test_groups_wired_directly_are_one_step_apart(self) -> None:
        nodes = (
            TokenIn("tokens", (), 1, "table"),
            group("first", sender(), "tokens"),
            group("second", sender(), "first"),
        )
        balanced = balance_delays(Graph(nodes, {}))
        found = offsets(balanced)
        assert found["second"] - found["first"] == 1

    @pytest.mark.parametrize(("hops", "expected"), [(63, [63]), (64, [64]), (65, [64, 1]), (130, [64, 64, 2])])
    def test_a_long_delay_is_a_chain_of_hops_of_at_most_64_steps(self, hops: int, expected: list[int]) -> None:
        balanced = balance_delays(branches(hops))
        balanced.check()
        delays = [node for node in balanced if isinstance(node, Delay) and node.name.startswith("last.")]
        assert [node.steps for node in delays] == expected
        assert len({node.name for node in delays}) == len(delays)
        assert offsets(balanced)["last"] == hops

    def test_a_balanced_graph_stays_as_it_is(self, lowered: Any) -> None:
        assert balance_delays(lowered.graph).nodes == lowered.graph.nodes

    def test_no_group_hears_another_without_a_synapse_between(self, lowered: Any) -> None:
        for node in lowered.graph:
            if isinstance(node, NeuronGroup):
                sources = [lowered.graph.by_name[source.node] for source in node.inputs]
                assert all(isinstance(source, Synapse | TokenIn) for source in sources)


class TestNetwork:
    def test_all_inputs_of_every_node_meet_in_the_same_step(self, lowered: Any) -> None:
        graph = lowered.graph
        received = offsets(graph)
        for node in graph:
            arrivals = set()
            for source in node.inputs:
                sender = graph.by_name[source.node]
                arrivals.add(received[source.node] + (sender.latency if isinstance(sender, Synapse) else 0))
            assert arrivals in (set(), {received[node.name]})

    @pytest.mark.parametrize("layers", [1, 2, 3])
    def test_a_block_takes_twelve_steps_and_the_head_three(
        self, layers: int, make_checkpoint: Callable[..., Checkpoint], lower_checkpoint: Callable[..., Any]
    ) -> None:
        graph = lower_checkpoint(make_checkpoint(num_hidden_layers=layers)).graph
        received = offsets(graph)
        ends = [received["embeddings"]]
        ends += [received[f"layers.{layer}.mlp.residual"] for layer in range(layers)]
        assert np.diff(ends).tolist() == [12] * layers
        assert received["logits"] - ends[-1] == 3
        assert depth(graph) == 12 * layers + 3

    def test_delays_do_not_change_the_logits(self, lowered: Any) -> None:
        before, after = Engine(lowered.unscheduled), Engine(lowered.graph)
        assert np.array_equal(before.process(lowered.ids), after.process(lowered.ids))


class TestExecutor:
    def test_a_part_of_the_graph_runs_on_what_comes_from_outside(self) -> None:
        graph = balance_delays(branches(3))
        inner: tuple[Node, ...] = tuple(node for node in graph if not isinstance(node, TokenIn))
        values = Executor(graph, inner).run(
            {Source("tokens"): np.array([[3], [-4]])}, wanted=[Source("last"), Source("hop0")]
        )
        assert values[Source("last")].tolist() == [[6], [-8]]
        assert values[Source("hop0")].tolist() == [[3], [-4]]

    def test_a_tap_sees_every_message_in_order(self) -> None:
        graph = branches(1)
        seen: list[str] = []
        Executor(graph, graph.nodes[1:]).run(
            {Source("tokens"): np.array([[1]])}, tap=lambda source, _: seen.append(str(source))
        )
        assert seen == ["first:out", "hop0:out", "last:out"]

    def test_strict_mode_counts_accumulators_that_leave_24_bits(self, lowered: Any) -> None:
        graph = lowered.graph
        synapse = graph.by_name["lm_head"]
        assert isinstance(synapse, TernarySynapse)
        weights = synapse.weights(graph.tensors).astype(np.int64)
        # Ten weights or so a row at 2**21 can reach 2**24: the signs of the first row side with it.
        activations = 2**21 * np.sign(weights[:1])
        executor = Executor(graph, (synapse,), strict=True)
        executor.run({synapse.inputs[0]: activations})
        sums = activations @ weights.T
        expected = int(np.count_nonzero((sums < -(2**23)) | (sums >= 2**23)))
        assert expected > 0
        assert executor.counters.overflows == expected

    def test_a_layer_node_is_refused(self, lowered: Any) -> None:
        node = lowered.layers.nodes[-1]
        with pytest.raises(TypeError, match="logits: Logits declares no evaluation"):
            Executor(lowered.layers, (node,)).run({node.inputs[0]: np.array([[1]])})


def test_the_token_input_is_given_by_the_host() -> None:
    graph = branches(1)
    tokens = replace(graph.nodes[0])
    with pytest.raises(TypeError, match="tokens: the host provides its value"):
        Executor(graph, (tokens,)).run({})

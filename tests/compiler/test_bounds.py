"""Rules R1 to R3 for a whole network: proved, or refused with the layer and the bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.bounds import bound_violations
from loihi_mmfree.fixedpoint.proof import Violation
from loihi_mmfree.ir.executor import Executor
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import NeuronGroup, TokenIn
from loihi_mmfree.ir.synapses import SumSynapse, TernarySynapse
from loihi_mmfree.loihi2.hardware import LOIHI2, ChipSpec
from loihi_mmfree.net.artifact import Net

LARGEST_ACCUMULATOR = 2**23 - 1
WIDE_ROW = 300


def chip(**limits: int) -> ChipSpec:
    """Loihi 2 with other limits."""
    return replace(LOIHI2, **{name: replace(getattr(LOIHI2, name), value=value) for name, value in limits.items()})


@pytest.fixture(scope="module")
def dense_row(make_checkpoint: Callable[..., Checkpoint]) -> Checkpoint:
    """A checkpoint in which row 3 of the head adds all 300 inputs; the host reads it, so it is never split."""
    weight = np.random.default_rng(0).choice([-1.0, 0.0, 0.0, 1.0], (32, WIDE_ROW)).astype(np.float32)
    weight[3] = 1.0
    return make_checkpoint({"lm_head.weight": weight}, hidden_size=WIDE_ROW, num_hidden_layers=1)


class TestProof:
    def test_the_compiled_tiny_model_keeps_every_bound(self, tiny_net: Net) -> None:
        assert bound_violations(tiny_net.graph) == []

    def test_a_random_network_keeps_every_bound(self, lowered: Any) -> None:
        assert bound_violations(lowered.graph) == []

    @pytest.mark.parametrize("bits", [8, 12, 16])
    def test_a_small_network_keeps_them_at_every_activation_width(
        self, bits: int, lowered: Any, lower_checkpoint: Callable[..., Any]
    ) -> None:
        graph = lower_checkpoint(lowered.checkpoint, activation_bits=bits).graph
        assert bound_violations(graph) == []


class TestRefusal:
    def test_a_row_that_can_overflow_is_named_with_its_sum_and_the_bound(
        self, dense_row: Checkpoint, lower_checkpoint: Callable[..., Any]
    ) -> None:
        graph = lower_checkpoint(dense_row, activation_bits=16).graph
        what = "24-bit accumulator (rule R2)"
        found = Violation("lm_head", what, WIDE_ROW * (2**15 - 1), LARGEST_ACCUMULATOR)
        assert found in bound_violations(graph)

    def test_the_same_row_fits_at_twelve_bits(
        self, dense_row: Checkpoint, lower_checkpoint: Callable[..., Any]
    ) -> None:
        assert bound_violations(lower_checkpoint(dense_row, activation_bits=12).graph) == []

    def test_a_violation_says_where_it_is_what_was_found_and_what_is_allowed(
        self, dense_row: Checkpoint, lower_checkpoint: Callable[..., Any]
    ) -> None:
        graph = lower_checkpoint(dense_row, activation_bits=16).graph
        text = f"lm_head: 24-bit accumulator (rule R2): found 9830100, allowed {2**23 - 1}"
        assert text in [str(each) for each in bound_violations(graph)]

    def test_that_row_really_overflows_at_the_input_that_sides_with_it(
        self, dense_row: Checkpoint, lower_checkpoint: Callable[..., Any]
    ) -> None:
        graph: Graph = lower_checkpoint(dense_row, activation_bits=16).graph
        synapse = graph.by_name["lm_head"]
        executor = Executor(graph, (synapse,), strict=True)
        executor.run({synapse.inputs[0]: np.full((1, WIDE_ROW), 2**15 - 1)})
        assert executor.counters.overflows == 1

    @pytest.mark.parametrize(
        ("limits", "node", "what"),
        [
            ({"accumulator_bits": 12}, "layers.0.attn.i_proj", "12-bit accumulator (rule R2)"),
            ({"accumulator_bits": 12}, "layers.0.attn_norm.rms.sum_high", "12-bit accumulator (rule R2)"),
            ({"message_bits": 15}, "layers.1.mlp.residual", "message out (rule R1), bits"),
            ({"state_bits": 12}, "layers.1.attn.mlgru", "state h (rule R3), bits"),
            ({"register_bits": 30}, "layers.0.mlp.glu", "widest register, bits"),
        ],
    )
    def test_each_limit_of_the_chip_is_checked(
        self, limits: dict[str, int], node: str, what: str, lowered: Any
    ) -> None:
        found = {(each.where, each.what) for each in bound_violations(replace(lowered.graph, chip=chip(**limits)))}
        assert (node, what) in found

    def test_a_limit_that_is_just_met_is_kept(self, lowered: Any) -> None:
        widest = max(
            each.bits
            for node in lowered.graph
            if isinstance(node, NeuronGroup)
            for each in node.program.instructions
        )
        assert bound_violations(replace(lowered.graph, chip=chip(register_bits=widest))) == []
        assert bound_violations(replace(lowered.graph, chip=chip(register_bits=widest - 1))) != []


class TestSoundness:
    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 2**32), extreme=st.booleans())
    def test_whatever_rows_enter_and_states_are_kept_nothing_overflows(
        self, seed: int, extreme: bool, lowered: Any
    ) -> None:
        graph, random = lowered.graph, np.random.default_rng(seed)
        tokens = next(node for node in graph if isinstance(node, TokenIn))
        table = graph.tensors[tokens.table]
        low, high = int(table.min()), int(table.max())
        shape = (8, tokens.size)
        rows = random.choice([low, high], shape) if extreme else random.integers(low, high, shape, endpoint=True)
        inner = tuple(node for node in graph if node is not tokens)
        executor = Executor(graph, inner, strict=True)
        for node in inner:
            if isinstance(node, NeuronGroup):
                for port in node.program.states:
                    ends = [-(2 ** (port.bits - 1)) + 1, 2 ** (port.bits - 1) - 1]
                    executor.evaluators[node.name].variables[port.name] = random.choice(ends, node.size)
        executor.run({tokens.out(): rows.astype(np.int64)})
        assert executor.counters.overflows == 0

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 2**32))
    def test_no_synapse_can_be_driven_beyond_24_bits_by_messages_of_its_format(
        self, seed: int, lowered: Any
    ) -> None:
        graph, random = lowered.graph, np.random.default_rng(seed)
        for node in graph:
            if not isinstance(node, TernarySynapse | SumSynapse):
                continue
            limit = self._largest_message(graph, node.inputs[0])
            activations = random.choice([-limit, limit], (4, node.columns))
            if isinstance(node, TernarySynapse):
                row = node.weights(graph.tensors)[random.integers(node.rows)]
                activations[0] = limit * np.where(row < 0, -1, 1)
            executor = Executor(graph, (node,), strict=True)
            executor.run({node.inputs[0]: activations})
            assert executor.counters.overflows == 0, node.name

    @staticmethod
    def _largest_message(graph: Graph, source: Source) -> int:
        """Greatest magnitude a message can have: what its register holds, or half a square."""
        producer = graph.by_name[source.node]
        assert isinstance(producer, NeuronGroup)
        bits = next(port.bits for port in producer.program.outputs if port.name == source.port)
        return 2 ** (bits - 1) - 1


@pytest.mark.parametrize(
    ("tensor", "factor"),
    [("model.layers.0.mlp.gate_proj.weight", 1e-3), ("model.layers.0.attn.i_proj.norm.weight", 1e-8)],
)
def test_tiny_values_are_no_reason_to_refuse_a_network(
    tensor: str, factor: float, make_checkpoint: Callable[..., Any], lower_checkpoint: Callable[..., Any]
) -> None:
    before = make_checkpoint().tensor(tensor).numpy()
    lowered = lower_checkpoint(make_checkpoint(tensors={tensor: (before * factor).astype(np.float32)}))
    assert bound_violations(lowered.graph) == []

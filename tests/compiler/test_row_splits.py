"""Rows of weights too long for an accumulator or for a core's axons are cut into slices that relays sum up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loihi_mmfree.compiler.bounds import bound_violations
from loihi_mmfree.compiler.passes.balance_delays import balance_delays
from loihi_mmfree.compiler.passes.lower import lower
from loihi_mmfree.compiler.passes.split_rows import row_parts, slices
from loihi_mmfree.fixedpoint.ternary import pack_ternary
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup, Role
from loihi_mmfree.ir.schedule import depth
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.loihi2.hardware import LOIHI2, ChipSpec
from loihi_mmfree.sim.engine.compiled import FastEngine
from loihi_mmfree.sim.engine.specification import Engine


def chip(**limits: int) -> ChipSpec:
    figures = {name: replace(getattr(LOIHI2, name), value=value) for name, value in limits.items()}
    return replace(LOIHI2, **figures)


@given(columns=st.integers(1, 500), parts=st.integers(1, 40))
def test_slices_cover_every_column_once_and_begin_at_bytes(columns: int, parts: int) -> None:
    cut = slices(columns, parts)
    assert [column for part in cut for column in part] == list(range(columns))
    assert all(part.start % 4 == 0 for part in cut)
    assert len(cut) <= parts


class TestParts:
    def test_a_row_that_fits_stays_whole(self) -> None:
        assert row_parts(pack_ternary(np.ones((2, 4096), dtype=np.int8)), 4096, 2047, LOIHI2) == 1

    def test_zeros_take_no_part_in_a_sum(self) -> None:
        codes = np.ones((2, 8192), dtype=np.int8)
        assert row_parts(pack_ternary(codes), 8192, 2047, LOIHI2) == 2
        codes[:, ::2] = 0
        assert row_parts(pack_ternary(codes), 8192, 2047, LOIHI2) == 1

    def test_the_longest_row_decides(self) -> None:
        codes = np.zeros((3, 8192), dtype=np.int8)
        codes[1] = -1
        assert row_parts(pack_ternary(codes), 8192, 2047, LOIHI2) == 2

    def test_a_part_has_no_more_columns_than_a_core_has_axons(self) -> None:
        codes = np.zeros((1, 100), dtype=np.int8)
        assert row_parts(pack_ternary(codes), 100, 1, chip(input_axons=40)) == 3


@pytest.fixture(scope="module")
def split(lowered: Any) -> Graph:
    """The network lowered for a chip whose cores have fewer axons than its rows have columns."""
    narrow = chip(input_axons=16)
    graph = balance_delays(lower(lowered.layers, lowered.checkpoint, lowered.formats, narrow))
    graph.check()
    return graph


class TestSplitNetwork:
    def test_has_the_logits_of_the_whole_one(self, lowered: Any, split: Graph) -> None:
        expected = Engine(lowered.graph, strict=True).process(lowered.ids)
        assert np.array_equal(Engine(split, strict=True).process(lowered.ids), expected)

    def test_keeps_every_bound(self, lowered: Any, split: Graph) -> None:
        assert bound_violations(split) == []

    def test_sums_in_relays_one_step_later(self, lowered: Any, split: Graph) -> None:
        relays = [node for node in split if isinstance(node, NeuronGroup) and node.role is Role.RELAY]
        parts = [node for node in split if isinstance(node, TernarySynapse) and node.columns < node.source_size]
        assert relays
        assert parts
        assert all(node.columns <= 16 for node in parts)
        assert depth(split) > depth(lowered.graph)

    def test_holds_every_weight_once(self, lowered: Any, split: Graph) -> None:
        whole = {node.name: node for node in lowered.graph if isinstance(node, TernarySynapse)}
        for name, node in whole.items():
            parts = [
                each
                for each in split
                if isinstance(each, TernarySynapse) and each.name.partition(".part_")[0] == name
            ]
            total = sum(part.weights(split.tensors).astype(int) for part in parts)
            assert np.array_equal(total, node.weights(lowered.graph.tensors))

    def test_runs_on_compiled_kernels_bit_for_bit(self, lowered: Any, split: Graph) -> None:
        expected = Engine(split, strict=True).process(lowered.ids)
        assert np.array_equal(FastEngine(split, strict=True).process(lowered.ids), expected)

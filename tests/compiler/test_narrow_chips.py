"""Systems with other widths: compiled where that is possible, proved and counted against their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.activity.observer import Observer
from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.bounds import bound_violations
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.passes.narrow_registers import bits_of, narrow_registers
from loihi_mmfree.compiler.pipeline import compile_checkpoint, run_passes
from loihi_mmfree.compiler.programs import multiplier_bits, square_half_bits
from loihi_mmfree.errors import DoesNotFitError
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.loihi2.hardware import LOIHI2, ChipSpec
from loihi_mmfree.net.artifact import load_net
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.sim.engine.compiled import FastEngine
from loihi_mmfree.sim.engine.specification import Engine

NARROW = {"accumulator_bits": 20, "message_bits": 16, "register_bits": 36, "input_axons": 6}
"""Everything narrow, and rows cut."""


def chip(**limits: int) -> ChipSpec:
    """Loihi 2 with other limits."""
    return replace(LOIHI2, **{name: replace(getattr(LOIHI2, name), value=value) for name, value in limits.items()})


def lower_for(lowered: Any, **limits: int) -> Graph:
    """The random network for another system."""
    return run_passes(lowered.checkpoint, lowered.formats, chip(**limits))


@pytest.mark.parametrize(
    "limits",
    [
        {"accumulator_bits": 17},
        {"accumulator_bits": 20},
        {"accumulator_bits": 23},
        {"accumulator_bits": 32},
        {"message_bits": 16},
        {"message_bits": 32},
        {"register_bits": 36},
        {"register_bits": 63},
        NARROW,
    ],
    ids=str,
)
def test_a_network_is_compiled_for_other_widths_and_keeps_them(limits: dict[str, int], lowered: Any) -> None:
    graph = lower_for(lowered, **limits)
    assert bound_violations(graph) == []
    for node in graph:
        if isinstance(node, NeuronGroup):
            assert all(each.bits <= graph.chip.register_bits.value for each in node.program.instructions)
            assert all(each.bits <= graph.chip.message_bits.value for each in node.program.outputs)
    engine = Engine(graph, strict=True)
    logits = engine.process(lowered.ids)
    assert engine.counters.overflows == 0
    expected = Engine(lowered.graph).process(lowered.ids)
    assert np.linalg.norm(logits - expected) <= 1e-2 * np.linalg.norm(expected)


def test_the_compiled_engine_runs_it_bit_for_bit(lowered: Any) -> None:
    graph = lower_for(lowered, **NARROW)
    specification, compiled = Engine(graph, strict=True), FastEngine(graph, strict=True)
    assert np.array_equal(compiled.process(lowered.ids), specification.process(lowered.ids))
    assert compiled.counters == specification.counters


class TestRowsInManyParts:
    """Rows of 24 columns for cores of six input axons."""

    @pytest.fixture(scope="class")
    def split(self, lowered: Any) -> Graph:
        return lower_for(lowered, input_axons=6)

    def test_are_six_and_add_up_to_what_the_whole_row_does(self, lowered: Any, split: Graph) -> None:
        parts = [
            node
            for node in split
            if isinstance(node, TernarySynapse) and node.name.startswith("layers.0.mlp.down_proj.part_")
        ]
        assert len(parts) == 6
        expected = Engine(lowered.graph).process(lowered.ids)
        assert np.array_equal(Engine(split, strict=True).process(lowered.ids), expected)

    def test_keep_every_bound(self, split: Graph) -> None:
        assert bound_violations(split) == []

    def test_are_added_in_a_register_as_wide_as_their_product_leaves_room_for(self, split: Graph) -> None:
        group = split.by_name["layers.0.mlp.residual"]
        assert isinstance(group, NeuronGroup)
        assert max(each.bits for each in group.program.instructions) <= LOIHI2.register_bits.value


def test_a_sum_that_takes_more_bits_gets_a_shorter_multiplier() -> None:
    # (2**24 - 1) * (2**15 - 1) is below 2**39, (2**25 - 1) * (2**15 - 1) is not.
    assert multiplier_bits(2**23 - 1, LOIHI2) == 15
    assert multiplier_bits(2**24 - 1, LOIHI2) == 15
    assert multiplier_bits(2**25 - 1, LOIHI2) == 14


def test_registers_that_fit_are_left_as_they_are(lowered: Any) -> None:
    assert narrow_registers(lowered.graph) is lowered.graph


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(0, 0, 2), (0, 1, 2), (-2, 1, 2), (-3, 0, 3), (0, 2, 3), (-128, 127, 8), (0, 128, 9)]
)
def test_the_width_of_a_range_is_that_of_its_longer_end(low: int, high: int, bits: int) -> None:
    assert bits_of(Interval(np.array([low]), np.array([high]))) == bits


def test_accumulators_too_narrow_for_any_sum_of_squares_are_refused_with_their_width() -> None:
    with pytest.raises(DoesNotFitError, match=r"squares of 300 values .* accumulators of 9,"):
        square_half_bits(300, chip(accumulator_bits=9))


def test_activations_of_sixteen_bits_run_alike_everywhere(demo_checkpoint: Path, tmp_path: Path) -> None:
    """Rows of down_proj are cut into three: sums take 26 bits, and no register has 15 more for the product."""
    config = CompileConfig(QuantizationConfig(activation_bits=16), calibration_tokens=256)
    net, _ = compile_checkpoint(demo_checkpoint, tmp_path / "net", config)
    assert "layers.5.mlp.down_proj.part_2" in net.graph.by_name
    ids = np.array([1, 17, 300, 4, 5, 99])
    expected = Engine(net.graph, strict=True)
    logits = expected.process(ids)
    assert expected.counters.overflows == 0
    assert np.array_equal(FastEngine(net.graph, strict=True).process(ids), logits)
    pytest.importorskip("lava")
    from loihi_mmfree.sim.lava.network import LavaNetwork

    with LavaNetwork(net.graph, "network", strict=True) as network:
        assert np.array_equal(network.process(ids), logits)


def test_a_network_read_back_knows_the_limits_it_was_compiled_for(
    make_checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    (tmp_path / "narrow.toml").write_text("accumulator_bits = 20\nmessage_bits = 16\n")
    config = CompileConfig(chip=str(tmp_path / "narrow.toml"), calibration_tokens=64)
    compile_checkpoint(make_checkpoint().path, tmp_path / "net", config)
    (tmp_path / "narrow.toml").unlink()
    found = load_net(tmp_path / "net").graph.chip
    assert (found.accumulator_bits.value, found.message_bits.value, found.state_bits.value) == (20, 16, 24)


def test_the_compiled_engine_counts_at_the_width_of_its_chip(lowered: Any) -> None:
    narrow = replace(lowered.graph, chip=chip(accumulator_bits=8))
    specification, compiled = Engine(narrow, strict=True), FastEngine(narrow, strict=True)
    for engine in (specification, compiled):
        engine.process(lowered.ids)
    assert compiled.counters == specification.counters
    assert compiled.counters.overflows > 0
    sums: list[int] = []
    accumulating = {node.name for node in narrow if node.counts and not node.sends}

    def see(source: Source, values: np.ndarray) -> None:
        if source.node in accumulating:
            sums.append(int(np.count_nonzero((values < -128) | (values > 127))))

    Engine(lowered.graph, observer=Observer(values=see)).process(lowered.ids)
    assert specification.counters.overflows == sum(sums)

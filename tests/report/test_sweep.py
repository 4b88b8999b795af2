"""Variations of a network and the Pareto front among them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from loihi_mmfree.compiler.artifact import Net
from loihi_mmfree.report.parameters import load_parameters
from loihi_mmfree.report.sweep import SweepRow, pareto, settings, sweep
from loihi_mmfree.sim.activity import ActivityRecorder, worst_case
from loihi_mmfree.sim.engine import Engine


def test_a_point_is_on_the_front_unless_another_is_as_good_in_both_and_better_in_one() -> None:
    # throughput, energy
    points = [(1.0, 1.0), (2.0, 2.0), (2.0, 3.0), (0.5, 1.0), (2.0, 2.0)]
    assert pareto(points) == [True, True, False, False, True]


@pytest.fixture(scope="module")
def rows(tiny_net: Net) -> tuple[SweepRow, ...]:
    """The sweep of mmf-tiny in the worst case."""
    placed, worst = tiny_net.placed, worst_case(tiny_net.graph)
    return sweep(tiny_net.graph, placed.placement, placed.chip, worst, load_parameters())


def test_more_zeros_cost_less_time_and_less_energy(rows: tuple[SweepRow, ...]) -> None:
    by_zeros = [row for row in rows if "zeros" in row.what]
    assert len(by_zeros) == 4
    for before, after in pairwise(by_zeros):
        assert after.tokens_per_s["generate"] > before.tokens_per_s["generate"]
        assert after.millijoules["generate"] < before.millijoules["generate"]


def test_the_sweep_varies_weight_bits_and_chips(rows: tuple[SweepRow, ...]) -> None:
    assert {row.weight_bits for row in rows} == {2, 8}
    assert len({row.chips for row in rows}) > 1


def test_narrower_activations_send_the_values_that_do_not_round_to_zero(tiny_net: Net) -> None:
    golden = tiny_net.golden()
    engine, recorder = Engine(tiny_net.graph), ActivityRecorder(tiny_net.graph, histograms=True)
    engine.process(golden["ids"].astype(np.int64), recorder)
    found = {each.what: each for each in settings(tiny_net.graph, tiny_net.placed.placement, recorder.activity())}
    narrower = found["activations 4 bits narrower"].activity
    assert narrower is not None
    key = "layers.0.attn.o_proj.norm.scale:o_proj"
    assert narrower.messages[key] == np.count_nonzero((np.abs(golden[key]) + 8) >> 4)


def test_without_histograms_activation_bits_are_not_varied(tiny_net: Net) -> None:
    found = settings(tiny_net.graph, tiny_net.placed.placement, worst_case(tiny_net.graph))
    assert not any("activations" in each.what for each in found)


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)]])
def test_the_front_of_none_or_one_is_itself(points: list[tuple[float, float]]) -> None:
    assert pareto(points) == [True] * len(points)

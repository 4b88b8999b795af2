"""Variations of a network and the Pareto front among them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from loihi_mmfree.activity.counts import Activity, worst_case
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.cost.parameters import load_parameters
from loihi_mmfree.cost.sweep import SweepRow, Variation, pareto, sweep, variations_of
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.engine.specification import Engine


def test_a_point_is_on_the_front_unless_another_is_as_good_in_both_and_better_in_one() -> None:
    # throughput, energy
    points = [(1.0, 1.0), (2.0, 2.0), (2.0, 3.0), (0.5, 1.0), (2.0, 2.0)]
    assert pareto(points) == [True, True, False, False, True]


@pytest.fixture(scope="module")
def rows(tiny_net: Net) -> tuple[SweepRow, ...]:
    """The sweep of mmf-tiny in the worst case."""
    placed, worst = tiny_net.placed, worst_case(tiny_net.graph)
    return sweep(tiny_net.graph, placed.placement, placed.chip, worst, load_parameters())


@pytest.fixture(scope="module")
def with_histograms(tiny_net: Net) -> Activity:
    """Of the golden ids."""
    recorder = ActivityRecorder(tiny_net.graph, histograms=True)
    Engine(tiny_net.graph, observer=recorder.observer).read(tiny_net.golden()["ids"].astype(np.int64))
    return recorder.activity()


def test_more_zeros_cost_less_time_and_less_energy(rows: tuple[SweepRow, ...]) -> None:
    by_zeros = [row for row in rows if "zeros" in row.what]
    assert len(by_zeros) == 4
    for before, after in pairwise(by_zeros):
        assert after.tokens_per_s["generate"] > before.tokens_per_s["generate"]
        assert after.millijoules["generate"] < before.millijoules["generate"]


def test_the_sweep_varies_weight_bits_and_chips(rows: tuple[SweepRow, ...]) -> None:
    assert {row.weight_bits for row in rows} == {2, 8}
    assert len({row.chips for row in rows}) > 1


def test_the_front_is_that_of_what_can_be_chosen(rows: tuple[SweepRow, ...]) -> None:
    choices = [row for row in rows if not row.hypothetical]
    assert [row.what for row in rows if row.hypothetical] == [row.what for row in rows if "zeros" in row.what]
    for phase in ("prefill", "generate"):
        front = pareto([(row.tokens_per_s[phase], row.millijoules[phase]) for row in choices])
        assert [row.best[phase] for row in choices] == front
        assert any(front)


def test_zeros_that_are_put_in_are_never_best_and_keep_nothing_from_being_best(rows: tuple[SweepRow, ...]) -> None:
    assert not any(best for row in rows if row.hypothetical for best in row.best.values())
    compiled, sparse = rows[0], next(row for row in rows if row.what.startswith("90%"))
    assert sparse.tokens_per_s["generate"] > compiled.tokens_per_s["generate"]
    assert sparse.millijoules["generate"] < compiled.millijoules["generate"]
    assert compiled.best["generate"]


def test_variations_of_chips_are_named_by_the_chips_in_use(rows: tuple[SweepRow, ...]) -> None:
    spread = [row for row in rows if row.what.startswith("spread")]
    assert spread
    assert [row.what for row in spread] == [f"spread over {row.chips} chips" for row in spread]


def test_variations_that_use_as_many_chips_as_another_are_left_out(tiny_net: Net) -> None:
    placed, worst = tiny_net.placed, worst_case(tiny_net.graph)
    # Given four chips, mmf-tiny uses three of them.
    variations = [Variation("as compiled"), *(Variation("more", chips=chips) for chips in (1, 4, 3))]
    found = sweep(tiny_net.graph, placed.placement, placed.chip, worst, load_parameters(), variations)
    assert [row.what for row in found] == ["as compiled", "spread over 3 chips"]


@pytest.mark.parametrize(("bits", "name"), [(1, "1 bit"), (2, "2 bits"), (4, "4 bits")])
def test_narrower_activations_send_the_values_that_do_not_round_to_zero(
    tiny_net: Net, with_histograms: Activity, bits: int, name: str
) -> None:
    found = {each.what: each for each in variations_of(tiny_net.graph, tiny_net.placed.placement, with_histograms)}
    variation = found[f"activations {name} narrower"]
    assert variation.activity is not None
    assert variation.hypothetical
    golden, key = tiny_net.golden(), "layers.0.attn.o_proj.norm.scale:o_proj"
    half = 1 << (bits - 1)
    assert variation.activity.messages[key] == np.count_nonzero((golden[key] + half) >> bits)


def test_without_histograms_activation_bits_are_not_varied(tiny_net: Net) -> None:
    found = variations_of(tiny_net.graph, tiny_net.placed.placement, worst_case(tiny_net.graph))
    assert not any("activations" in each.what for each in found)


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)]])
def test_the_front_of_none_or_one_is_itself(points: list[tuple[float, float]]) -> None:
    assert pareto(points) == [True] * len(points)

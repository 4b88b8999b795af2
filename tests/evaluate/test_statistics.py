"""Intervals and tests against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from loihi_mmfree.evaluate.statistics import RESAMPLES, interval, mcnemar, perplexity, resampled_sums


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),
        (0, 6, 2 / 64),
        (1, 5, 2 * 7 / 64),
        (5, 1, 2 * 7 / 64),
        # 2 * (1 + 15 + 105) / 2**15
        (2, 13, 242 / 32768),
    ],
)
def test_mcnemar_is_the_exact_binomial_test(only_first, only_second, p):
    assert mcnemar(only_first, only_second) == pytest.approx(p, rel=1e-15)


def test_mcnemar_of_many_items_is_close_to_the_normal_approximation():
    # z = (5200 - 4800 - 1) / sqrt(10000) = 3.99: p = 6.6e-5
    assert mcnemar(4800, 5200) == pytest.approx(6.6e-5, rel=0.02)


def test_an_interval_of_a_mean_is_the_normal_one_where_there_are_many():
    values = np.random.default_rng(1).normal(10, 2, size=400)
    low, high = interval(resampled_sums(values[:, None])[:, 0] / 400)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_units_are_drawn_whole_and_as_many_as_there_are():
    columns = np.array([(1.0, 10.0), (2.0, 20.0), (3.0, 30.0)])
    drawn = resampled_sums(columns)
    assert drawn.shape == (RESAMPLES, 2)
    np.testing.assert_array_equal(drawn[:, 1], 10 * drawn[:, 0])
    assert drawn[:, 0].min() == 3
    assert drawn[:, 0].max() == 9


def test_the_same_units_give_the_same_interval():
    columns = np.random.default_rng(2).normal(size=(30, 1))
    np.testing.assert_array_equal(resampled_sums(columns), resampled_sums(columns))


def test_a_loss_beyond_every_float_is_an_infinite_perplexity():
    assert perplexity(1000.0) == float("inf")

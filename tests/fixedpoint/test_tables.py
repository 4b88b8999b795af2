"""The two tables against the functions they stand for, at the grid and between its points."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

from loihi_mmfree.fixedpoint.tables import rsqrt_first_segment, rsqrt_table, sigmoid_table


def test_the_sigmoid_table_holds_the_nearest_integers_at_257_points() -> None:
    with localcontext() as context:
        context.prec = 40
        exact = [2**15 / (1 + (Decimal(-j) / 16).exp()) for j in range(257)]
    table = sigmoid_table().tolist()
    assert len(table) == 257
    assert all(abs(entry - value) <= Decimal("0.5") for entry, value in zip(table, exact, strict=True))


def test_the_sigmoid_table_goes_from_one_half_to_one_without_ever_falling() -> None:
    table = sigmoid_table()
    assert (table[0], table[-1]) == (2**14, 2**15)
    assert np.all(np.diff(table) >= 0)


def test_the_rsqrt_table_holds_the_nearest_integers_at_97_points() -> None:
    table = rsqrt_table().tolist()
    assert len(table) == 97
    for entry, j in zip(table, range(32, 129), strict=True):
        # The nearest integer to 2**14 / sqrt(j/128), compared without a root: squares keep the order.
        square = Fraction(2**28 * 128, j)
        assert (entry - Fraction(1, 2)) ** 2 <= square <= (entry + Fraction(1, 2)) ** 2


def test_the_rsqrt_table_falls_from_two_to_one() -> None:
    table = rsqrt_table()
    assert (table[0], table[-1]) == (2**15, 2**14)
    assert np.all(np.diff(table) < 0)


def test_the_first_segment_of_the_rsqrt_table_is_that_of_the_smallest_mantissa() -> None:
    assert rsqrt_first_segment() == 2**14 // 2**9


def test_reading_the_rsqrt_table_along_its_chords_errs_by_less_than_one_in_ten_thousand() -> None:
    table = rsqrt_table().astype(np.float64)
    mantissa = np.arange(2**14, 2**16)
    position = mantissa / 2**9 - 32
    chord = np.interp(position, np.arange(97), table)
    exact = 2**14 / np.sqrt(mantissa / 2**16)
    # A chord of width 2**-7 under the curvature (3/4) m**(-5/2): 9.2e-5 at m = 1/4; rounding adds 1.5e-5.
    assert np.max(np.abs(chord / exact - 1)) <= 1.1e-4


def test_reading_the_sigmoid_table_along_its_chords_errs_by_about_two_units() -> None:
    x = np.linspace(0, 16, 100_001)
    chord = np.interp(x * 16, np.arange(257), sigmoid_table().astype(np.float64))
    exact = np.array([2**15 / (1 + math.exp(-value)) for value in x])
    # A chord of width 1/16 under a curvature of at most 0.0963: 1.54 units of 2**-15; rounding adds 0.5.
    assert np.max(np.abs(chord - exact)) <= 2.04

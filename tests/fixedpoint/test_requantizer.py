"""Real scales as M * 2**-k: accurate, in range, and refused where that cannot be."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.fixedpoint.requantizer import Requantizer, fit_multipliers

# The scales of real networks lie far inside; 2**-40 still keeps the shift below 63.
SCALES = st.floats(2.0**-40, 2.0**15, exclude_max=True) | st.integers(-40, 14).map(lambda e: 2.0**e)
LARGEST_ERROR = Fraction(1, 2**15)


@settings(max_examples=300, deadline=None)
@given(scale=SCALES)
def test_one_scale_is_met_to_a_relative_error_of_two_to_the_minus_fifteen(scale: float) -> None:
    found = Requantizer.from_scale(scale)
    applied = Fraction(found.multiplier) / 2**found.shift
    assert abs(applied / Fraction(scale) - 1) <= LARGEST_ERROR


@pytest.mark.parametrize("scale", [2.0**15 - 2.0**-30, math.nextafter(2.0**-3, 0), math.nextafter(1, 0)])
def test_the_error_bound_holds_where_the_multiplier_would_round_to_sixteen_bits(scale: float) -> None:
    found = Requantizer.from_scale(scale)
    applied = Fraction(found.multiplier) / 2**found.shift
    assert abs(applied / Fraction(scale) - 1) <= LARGEST_ERROR


@settings(max_examples=200, deadline=None)
@given(scale=SCALES | st.integers(-20, 14).map(lambda exponent: math.nextafter(2.0**exponent, 0)))
def test_no_other_multiplier_and_shift_are_nearer(scale: float) -> None:
    found = Requantizer.from_scale(scale)
    error = abs(Fraction(found.scale) - Fraction(scale))
    for shift in range(max(0, found.shift - 1), found.shift + 2):
        nearest = math.floor(Fraction(scale) * 2**shift + Fraction(1, 2))
        multiplier = min(max(nearest, 2**14), 2**15 - 1)
        assert error <= abs(Fraction(multiplier, 2**shift) - Fraction(scale))


@settings(max_examples=200, deadline=None)
@given(scale=SCALES)
def test_the_multiplier_of_one_scale_has_fifteen_significant_bits(scale: float) -> None:
    found = Requantizer.from_scale(scale)
    assert 2**14 <= found.multiplier < 2**15
    assert found.shift >= 0


@settings(max_examples=100, deadline=None)
@given(scale=SCALES)
def test_it_states_the_factor_it_applies_exactly(scale: float) -> None:
    found = Requantizer.from_scale(scale)
    assert Fraction(found.scale) == Fraction(found.multiplier) / 2**found.shift


@settings(max_examples=200, deadline=None)
@given(scale=SCALES, value=st.integers(-(2**23), 2**23))
def test_it_multiplies_and_rounds_half_up_once(scale: float, value: int) -> None:
    found = Requantizer.from_scale(scale)
    exact = Fraction(value * found.multiplier, 2**found.shift)
    assert found(np.array([value])) == math.floor(exact + Fraction(1, 2))


vectors = st.lists(SCALES | SCALES.map(lambda scale: -scale) | st.just(0.0), min_size=1, max_size=8).filter(any)


@settings(max_examples=200, deadline=None)
@given(scales=vectors)
def test_a_vector_shares_one_shift_and_is_met_to_half_a_unit_of_it(scales: list[float]) -> None:
    multipliers, shift = fit_multipliers(np.array(scales))
    assert shift >= 0
    for multiplier, scale in zip(multipliers.tolist(), scales, strict=True):
        error = abs(multiplier - Fraction(scale) * 2**shift)
        # The rounding itself is done in float64; a whole unit is lost only where the nearest integer is
        # 2**15, which has no place in 15 bits.
        assert error <= Fraction(1, 2) + Fraction(1, 2**50) or (abs(multiplier) == 2**15 - 1 and error <= 1)


@settings(max_examples=200, deadline=None)
@given(scales=vectors)
def test_a_vector_keeps_fifteen_bits_and_uses_them(scales: list[float]) -> None:
    multipliers, _ = fit_multipliers(np.array(scales))
    assert 2**14 <= np.abs(multipliers).max() < 2**15


@settings(max_examples=100, deadline=None)
@given(scales=vectors)
def test_the_sign_of_a_scale_is_the_sign_of_its_multiplier(scales: list[float]) -> None:
    multipliers, _ = fit_multipliers(np.array(scales))
    assert not np.any(multipliers * np.sign(scales) < 0)


@pytest.mark.parametrize("scale", [0.0, float("inf"), float("-inf"), float("nan"), 2.0**15, -(2.0**15), 1e30])
def test_a_scale_without_a_multiplier_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 2\\*\\*15"):
        fit_multipliers(np.array([scale]))


def test_one_bad_scale_in_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 2\\*\\*15"):
        fit_multipliers(np.array([1.0, float("nan"), 2.0]))


@pytest.mark.parametrize("exponent", [-49, -50, -60])
def test_a_scale_too_small_for_any_value_gives_zero_or_is_refused(exponent: int) -> None:
    try:
        found = Requantizer.from_scale(1.5 * 2.0**exponent)
    except ValueError:
        return
    assert found(np.array([-5, 0, 5, 2**23])).tolist() == [0, 0, 0, 0]

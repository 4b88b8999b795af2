"""Every integer primitive against its mathematical definition in rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.fixedpoint import arithmetic

HALF = Fraction(1, 2)
WIDE = st.integers(-(2**61), 2**61)
NARROW = st.integers(-(2**40), 2**40)
NORMALIZABLE = st.integers(0, 2**52 - 1) | st.integers(0, 51).map(lambda bit: 1 << bit)

many = settings(max_examples=200, deadline=None)


def half_up(value: Fraction) -> int:
    """The nearest integer; of two equally near ones the greater."""
    return math.floor(value + HALF)


def integers(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


class TestRoundingShift:
    @many
    @given(value=WIDE, shift=st.integers(0, 62))
    def test_is_the_quotient_rounded_half_up(self, value: int, shift: int) -> None:
        expected = half_up(Fraction(value, 2**shift))
        assert arithmetic.rounding_shift(integers(value), shift) == expected

    def test_rounds_ties_upwards_on_both_sides_of_zero(self) -> None:
        ties = integers(-6, -2, 2, 6)
        assert arithmetic.rounding_shift(ties, 2).tolist() == [-1, 0, 1, 2]

    @many
    @given(pairs=st.lists(st.tuples(WIDE, st.integers(0, 62)), min_size=1, max_size=8))
    def test_takes_another_distance_for_each_element(self, pairs: list[tuple[int, int]]) -> None:
        values, shifts = (integers(*column) for column in zip(*pairs, strict=True))
        expected = [half_up(Fraction(value, 2**shift)) for value, shift in pairs]
        assert arithmetic.rounding_shift(values, shifts).tolist() == expected

    @pytest.mark.parametrize("shift", [-1, integers(3, -2)])
    def test_refuses_a_negative_distance(self, shift: int | np.ndarray) -> None:
        with pytest.raises(ValueError, match="non-negative"):
            arithmetic.rounding_shift(integers(1, 2), shift)


class TestSaturate:
    @many
    @given(value=WIDE, bits=st.integers(2, 62))
    def test_is_the_nearest_value_of_the_symmetric_range(self, value: int, bits: int) -> None:
        limit = 2 ** (bits - 1) - 1
        expected = value if abs(value) <= limit else int(math.copysign(1, value)) * limit
        assert arithmetic.saturate(integers(value), bits) == expected

    @many
    @given(value=WIDE, bits=st.integers(2, 62))
    def test_changes_nothing_the_second_time(self, value: int, bits: int) -> None:
        once = arithmetic.saturate(integers(value), bits)
        assert arithmetic.saturate(once, bits) == once


@st.composite
def convex_combinations(draw: st.DrawFn) -> tuple[int, int, int, int]:
    bits = draw(st.integers(0, 20))
    weight = draw(st.integers(0, 2**bits) | st.sampled_from([0, 2**bits]))
    return weight, draw(NARROW), draw(NARROW), bits


class TestLerp:
    @many
    @given(case=convex_combinations())
    def test_is_the_convex_combination_rounded_half_up_once(self, case: tuple[int, int, int, int]) -> None:
        weight, at_one, at_zero, bits = case
        share = Fraction(weight, 2**bits)
        expected = half_up(share * at_one + (1 - share) * at_zero)
        found = arithmetic.lerp(integers(weight), integers(at_one), integers(at_zero), bits)
        assert found == expected

    @many
    @given(case=convex_combinations())
    def test_lies_between_its_two_ends(self, case: tuple[int, int, int, int]) -> None:
        weight, at_one, at_zero, bits = case
        found = int(arithmetic.lerp(integers(weight), integers(at_one), integers(at_zero), bits)[0])
        assert min(at_one, at_zero) <= found <= max(at_one, at_zero)

    @many
    @given(at_one=NARROW, at_zero=NARROW, bits=st.integers(0, 20))
    def test_reaches_both_ends_exactly(self, at_one: int, at_zero: int, bits: int) -> None:
        found = arithmetic.lerp(integers(0, 2**bits), integers(at_one), integers(at_zero), bits)
        assert found.tolist() == [at_zero, at_one]

    @settings(max_examples=10, deadline=None)
    @given(seed=st.integers(0, 2**32), bits=st.integers(1, 16))
    def test_iterated_for_ever_stays_in_the_hull_of_what_it_was_fed(self, seed: int, bits: int) -> None:
        random = np.random.default_rng(seed)
        limit = 2**23 - 1
        # Weights at and near one keep the state longest and round most often towards the same side.
        weights = np.where(
            random.random(3000) < 0.5, random.integers(0, 2**bits + 1, 3000), 2**bits - random.integers(0, 2, 3000)
        )
        candidates = random.choice([-limit, limit, 0, 1, -1, 12345], 3000)
        state, low, high = integers(0), 0, 0
        for weight, candidate in zip(weights, candidates, strict=True):
            state = arithmetic.lerp(integers(weight), state, integers(candidate), bits)
            low, high = min(low, candidate), max(high, candidate)
            assert low <= state[0] <= high


class TestNormalization:
    @many
    @given(value=NORMALIZABLE)
    def test_bit_length_is_that_of_the_integer(self, value: int) -> None:
        assert arithmetic.bit_length(integers(value)) == value.bit_length()

    def test_bit_length_is_exact_on_both_sides_of_every_power_of_two(self) -> None:
        values = [2**power + near for power in range(1, 62) for near in (-1, 0, 1)]
        assert arithmetic.bit_length(np.array(values)).tolist() == [value.bit_length() for value in values]

    @many
    @given(value=NORMALIZABLE.filter(bool), bits=st.integers(2, 30))
    def test_even_exponent_is_the_least_that_makes_the_value_fit(self, value: int, bits: int) -> None:
        exponent = int(arithmetic.even_exponent(integers(value), bits)[0])
        assert exponent % 2 == 0
        assert value < Fraction(2) ** (bits + exponent)
        assert value >= Fraction(2) ** (bits + exponent - 2)

    @many
    @given(value=NORMALIZABLE.filter(bool), bits=st.integers(2, 30))
    def test_mantissa_is_the_scaled_value_rounded_half_up_and_held_below_one(self, value: int, bits: int) -> None:
        exponent = int(arithmetic.even_exponent(integers(value), bits)[0])
        found = int(arithmetic.mantissa(integers(value), bits)[0])
        assert found == min(half_up(value / Fraction(2) ** exponent), 2**bits - 1)

    @many
    @given(value=NORMALIZABLE.filter(bool), bits=st.integers(2, 30))
    def test_mantissa_fills_the_two_octaves_below_one(self, value: int, bits: int) -> None:
        assert 2 ** (bits - 2) <= arithmetic.mantissa(integers(value), bits)[0] <= 2**bits - 1

    @many
    @given(value=NORMALIZABLE.filter(bool), bits=st.integers(2, 30))
    def test_mantissa_and_exponent_give_the_value_back_to_within_a_unit(self, value: int, bits: int) -> None:
        exponent = int(arithmetic.even_exponent(integers(value), bits)[0])
        mantissa = int(arithmetic.mantissa(integers(value), bits)[0])
        error = abs(mantissa - value / Fraction(2) ** exponent)
        # Half a unit by rounding; up to a whole one only where 2**bits itself is held to 2**bits - 1.
        assert error <= HALF or (mantissa == 2**bits - 1 and error < 1)

    def test_a_value_that_rounds_to_one_is_held_below_it(self) -> None:
        almost = integers(2**20 - 1)
        assert arithmetic.mantissa(almost, 16) == 2**16 - 1

    @pytest.mark.parametrize("bits", [2, 15, 16])
    def test_zero_has_mantissa_zero_and_exponent_zero(self, bits: int) -> None:
        assert arithmetic.even_exponent(integers(0), bits) == 0
        assert arithmetic.mantissa(integers(0), bits) == 0

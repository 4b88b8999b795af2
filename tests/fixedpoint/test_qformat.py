"""What an integer on an edge means, and which format a calibration chooses."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.fixedpoint.qformat import QFormat

BITS = st.integers(2, 32)
MAGNITUDES = st.floats(1e-30, 1e30) | st.integers(-60, 60).map(lambda exponent: 2.0**exponent)


def largest(bits: int, frac: int) -> Fraction:
    """The greatest value of a format: 2**(bits-1) - 1 units of 2**-frac."""
    return (2 ** (bits - 1) - 1) * Fraction(2) ** -frac


@settings(max_examples=200, deadline=None)
@given(bits=BITS, maximum=MAGNITUDES)
def test_covering_represents_the_maximum(bits: int, maximum: float) -> None:
    chosen = QFormat.covering(bits, maximum)
    assert chosen.bits == bits
    assert largest(bits, chosen.frac) >= Fraction(maximum)


@settings(max_examples=200, deadline=None)
@given(bits=BITS, maximum=MAGNITUDES)
def test_covering_is_the_finest_that_does(bits: int, maximum: float) -> None:
    chosen = QFormat.covering(bits, maximum)
    assert largest(bits, chosen.frac + 1) < Fraction(maximum)


@settings(max_examples=100, deadline=None)
@given(bits=BITS, frac=st.integers(-100, 100))
def test_covering_its_own_largest_value_gives_the_format_back(bits: int, frac: int) -> None:
    assert QFormat.covering(bits, QFormat(bits, frac).max_value) == QFormat(bits, frac)


@settings(max_examples=100, deadline=None)
@given(bits=BITS, frac=st.integers(-100, 100))
def test_its_largest_integer_and_value_are_exact(bits: int, frac: int) -> None:
    chosen = QFormat(bits, frac)
    assert chosen.max_int == 2 ** (bits - 1) - 1
    assert Fraction(chosen.scale) == Fraction(2) ** -frac
    assert Fraction(chosen.max_value) == largest(bits, frac)


@pytest.mark.parametrize("maximum", [0.0, -1.0, float("inf"), float("nan")])
def test_covers_only_positive_finite_magnitudes(maximum: float) -> None:
    with pytest.raises(ValueError, match="positive finite"):
        QFormat.covering(12, maximum)


@pytest.mark.parametrize("bits", [-1, 0, 1, 33])
def test_has_two_to_thirty_two_bits(bits: int) -> None:
    with pytest.raises(ValueError, match="2 to 32 bits"):
        QFormat(bits, 0)

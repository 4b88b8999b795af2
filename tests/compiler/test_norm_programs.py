"""The programs a norm is made of: squares, their root, and the scaling; each within a stated error."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loihi_mmfree.compiler.programs import (
    ScaledPort,
    Squares,
    embedding_program,
    residual_program,
    rms_program,
    scale_program,
    square_half_bits,
)
from loihi_mmfree.fixedpoint.interpreter import Machine, run_program
from loihi_mmfree.fixedpoint.program import Program
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.fixedpoint.requantizer import Requantizer, fit_multipliers
from loihi_mmfree.fixedpoint.tables import rsqrt_table
from loihi_mmfree.loihi2.hardware import LOIHI2

HALF = Fraction(1, 2)
ROOT_ERROR = 1.4e-4
"""Relative error of the inverse root.

A chord of the table lies above the curve by up to 9.2e-5 (at the smallest mantissa, where the curve bends
most); rounding the mantissa adds 1.5e-5, rounding the entries and the chord 1.5e-5 each, at that place.
"""
LARGEST_SUM = 2**23 - 1
TABLES = {"rsqrt": rsqrt_table().astype(np.int64)}

some = settings(max_examples=100, deadline=None)
seeds = st.integers(0, 2**32).map(np.random.default_rng)


def run(
    program: Program, constants: dict[str, np.ndarray] | None = None, **inputs: np.ndarray
) -> dict[str, np.ndarray]:
    """One time step of a group, with every register held against its declared width."""
    machine = Machine(constants or {}, TABLES, strict=True)
    outputs = run_program(program, machine, {name: np.atleast_2d(x) for name, x in inputs.items()}, {})
    assert machine.counters.overflows == 0
    return {name: value[0] for name, value in outputs.items()}


def half_up(value: Fraction) -> int:
    return math.floor(value + HALF)


def clipped(value: int | Fraction, limit: int) -> int | Fraction:
    return max(-limit, min(limit, value))


class TestSquareHalfBits:
    @pytest.mark.parametrize("columns", [1, 2, 16, 255, 256, 257, 1024, 2048, 2816, 8192])
    def test_the_sums_of_either_half_over_all_columns_stay_below_the_accumulator(self, columns: int) -> None:
        bits = square_half_bits(columns, LOIHI2)
        largest = (2**bits - 1) ** 2
        assert columns * (largest >> bits) <= LARGEST_SUM
        assert columns * (2**bits - 1) <= LARGEST_SUM

    @pytest.mark.parametrize("columns", [1, 2, 16, 255, 256, 257, 1024, 2048, 2816, 8192])
    def test_two_bits_more_would_overflow_or_not_be_wanted(self, columns: int) -> None:
        more = square_half_bits(columns, LOIHI2) + 2
        assert more >= 16 or columns * (2**more - 1) > LARGEST_SUM


class TestSquares:
    @some
    @given(random=seeds, bits=st.integers(8, 24), half_bits=st.integers(4, 15), gain_shift=st.integers(0, 20))
    def test_high_and_low_part_of_the_gained_value_recombine_exactly(
        self, random: np.random.Generator, bits: int, half_bits: int, gain_shift: int
    ) -> None:
        limit = 2 ** (bits - 1) - 1
        values = random.integers(-limit, limit, 16, endpoint=True)
        gains = random.integers(-(2**15) + 1, 2**15, 16)
        program = embedding_program(QFormat(bits, 5), Squares(half_bits, 0), gain_shift)
        found = run(program, {"statistic_gain": gains}, token=values)
        for n, (value, gain) in enumerate(zip(values.tolist(), gains.tolist(), strict=True)):
            gained = clipped(half_up(Fraction(value * gain, 2**gain_shift)), 2**half_bits - 1)
            assert found["square_high"][n] * 2**half_bits + found["square_low"][n] == gained**2

    @some
    @given(random=seeds, half_bits=st.integers(4, 15))
    def test_each_part_has_half_of_the_bits(self, random: np.random.Generator, half_bits: int) -> None:
        values = random.integers(-(2**15) + 1, 2**15, 64)
        program = embedding_program(QFormat(16, 0), Squares(half_bits, 0), 0)
        found = run(program, {"statistic_gain": np.array([1])}, token=values)
        for part in ("square_high", "square_low"):
            assert np.all((found[part] >= 0) & (found[part] < 2**half_bits))

    def test_the_embedding_passes_its_row_on(self) -> None:
        row = np.array([-7, 0, 7])
        program = embedding_program(QFormat(4, 2), Squares(8, 0), 3)
        assert run(program, {"statistic_gain": np.array([9])}, token=row)["out"].tolist() == row.tolist()


@st.composite
def residuals(draw: st.DrawFn) -> tuple[QFormat, QFormat, Requantizer]:
    bits = draw(st.integers(8, 24))
    after = QFormat(bits, draw(st.integers(-4, 20)))
    before = QFormat(bits, after.frac + draw(st.integers(-3, 3)))
    scale = draw(st.floats(2.0**-16, 4.0))
    return before, after, Requantizer.from_scale(scale)


class TestResidual:
    @some
    @given(formats=residuals(), random=seeds)
    def test_adds_the_scaled_accumulator_to_within_half_a_unit_for_each_rounding(
        self, formats: tuple[QFormat, QFormat, Requantizer], random: np.random.Generator
    ) -> None:
        before, after, delta = formats
        stream = random.integers(-before.max_int, before.max_int, 32, endpoint=True)
        accumulators = random.integers(-LARGEST_SUM, LARGEST_SUM, 32, endpoint=True) >> random.integers(0, 23)
        program = residual_program(before, after, delta, Squares(8, 0), 10, LOIHI2)
        constants = {"statistic_gain": np.array([1])}
        found = run(program, constants, stream=stream, delta=accumulators)["out"]
        # The delta is rounded once; the stream only where its format becomes coarser.
        bound = HALF + (HALF if after.frac < before.frac else 0)
        for x, change, result in zip(stream.tolist(), accumulators.tolist(), found.tolist(), strict=True):
            exact = x * Fraction(2) ** (after.frac - before.frac) + change * Fraction(delta.scale)
            assert abs(result - clipped(exact, after.max_int)) <= bound

    def test_saturates_instead_of_wrapping(self) -> None:
        form = QFormat(16, 8)
        program = residual_program(form, form, Requantizer.from_scale(1.0), Squares(8, 0), 10, LOIHI2)
        constants = {"statistic_gain": np.array([1])}
        stream, change = np.array([30000, -30000]), np.array([30000, -30000])
        found = run(program, constants, stream=stream, delta=change)["out"]
        assert found.tolist() == [2**15 - 1, -(2**15) + 1]


def inverse_root(total: np.ndarray, half_bits: int = 15, epsilon: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mantissa and exponent that the program sends for sums of squares [n]."""
    high, low = total >> half_bits, total & (2**half_bits - 1)
    found = run(rms_program(half_bits, epsilon, LOIHI2), sum_high=high, sum_low=low)
    return found["mantissa"], found["exponent"]


def relative_error(total: np.ndarray, mantissa: np.ndarray, exponent: np.ndarray) -> float:
    """Largest |sent * sqrt(total) - 1|."""
    sent = np.ldexp(mantissa.astype(np.float64), -(15 + exponent))
    return float(np.max(np.abs(sent * np.sqrt(total.astype(np.float64)) - 1)))


class TestInverseRoot:
    def test_of_every_small_sum_is_within_its_error(self) -> None:
        sums = np.arange(1, 2**17)
        assert relative_error(sums, *inverse_root(sums)) <= ROOT_ERROR

    @settings(max_examples=200, deadline=None)
    @given(total=st.integers(0, 37).flatmap(lambda bit: st.integers(2**bit, 2 ** (bit + 1) - 1)))
    def test_of_any_sum_up_to_two_to_the_38_is_within_its_error(self, total: int) -> None:
        sums = np.array([total])
        assert relative_error(sums, *inverse_root(sums)) <= ROOT_ERROR

    def test_holds_at_the_powers_of_two_and_beside_them(self) -> None:
        powers = 2 ** np.arange(2, 38)
        for sums in (powers - 1, powers, powers + 1):
            assert relative_error(sums, *inverse_root(sums)) <= ROOT_ERROR

    def test_of_a_greater_sum_is_never_greater(self) -> None:
        sums = np.arange(1, 2**17)
        mantissa, exponent = inverse_root(sums)
        sent = np.ldexp(mantissa.astype(np.float64), -exponent)
        assert np.all(np.diff(sent) <= 0)

    def test_is_sent_in_sixteen_bits_and_a_small_exponent(self) -> None:
        mantissa, exponent = inverse_root(np.array([1, 2, 3, 10**6, 2**38 - 2]))
        assert np.all((mantissa >= 2**14) & (mantissa <= 2**15))
        assert np.all((exponent >= 0) & (exponent <= 19))

    def test_of_zero_sends_nothing(self) -> None:
        mantissa, exponent = inverse_root(np.array([0]))
        assert (mantissa.tolist(), exponent.tolist()) == ([0], [0])

    @some
    @given(high=st.integers(0, LARGEST_SUM), low=st.integers(0, LARGEST_SUM), half_bits=st.integers(4, 15))
    def test_joins_both_halves_whatever_they_carry_over(self, high: int, low: int, half_bits: int) -> None:
        total = np.array([max(1, high * 2**half_bits + low)])
        low = low if high or low else 1
        found = run(rms_program(half_bits, 0, LOIHI2), sum_high=np.array([high]), sum_low=np.array([low]))
        assert relative_error(total, found["mantissa"], found["exponent"]) <= ROOT_ERROR

    @some
    @given(total=st.integers(0, 2**37), epsilon=st.integers(1, 2**30))
    def test_takes_the_epsilon_to_the_sum(self, total: int, epsilon: int) -> None:
        sums = np.array([total])
        assert relative_error(sums + epsilon, *inverse_root(sums, epsilon=epsilon)) <= ROOT_ERROR


@st.composite
def scalings(draw: st.DrawFn) -> tuple[QFormat, ScaledPort]:
    value = QFormat(draw(st.integers(8, 24)), draw(st.integers(0, 18)))
    form = QFormat(draw(st.integers(4, 16)), draw(st.integers(0, 12)))
    return value, ScaledPort("p", form, draw(st.integers(8, 18)), draw(st.integers(0, 14)))


class TestScale:
    @some
    @given(case=scalings(), random=seeds, root=st.integers(2**14, 2**15), exponent=st.integers(0, 19))
    def test_is_value_times_gain_times_root_to_within_half_a_unit_and_its_21_bit_product(
        self, case: tuple[QFormat, ScaledPort], random: np.random.Generator, root: int, exponent: int
    ) -> None:
        value, port = case
        x = random.integers(-value.max_int, value.max_int, 16, endpoint=True)
        gains = random.integers(-(2**15) + 1, 2**15, 16)
        shape = np.ones(16, dtype=np.int64)
        # Real value of one unit of x * gain, in units of the result, for this token.
        places = value.frac + port.gain_frac - port.sum_frac - port.format.frac
        unit = root * Fraction(2) ** -(15 + exponent + places)
        # x * gain is cut to 21 bits before it meets the root.
        dropped = max(value.bits + 15 - 21, 0)
        # A distance is 62 at most: the proof refuses a network with a larger one.
        assume(15 + exponent + places - dropped <= 62)
        bound = HALF + (HALF * 2**dropped * unit if dropped else 0)
        program = scale_program(value, (port,), LOIHI2)
        found = run(program, {"gain_p": gains}, value=x, mantissa=root * shape, exponent=exponent * shape)["p"]
        for each, gain, result in zip(x.tolist(), gains.tolist(), found.tolist(), strict=True):
            assert abs(result - clipped(each * gain * unit, port.format.max_int)) <= bound

    def test_of_a_silent_token_is_silent(self) -> None:
        port = ScaledPort("p", QFormat(12, 9), 12, 10)
        silent = np.zeros(3, dtype=np.int64)
        program = scale_program(QFormat(16, 10), (port,), LOIHI2)
        found = run(program, {"gain_p": np.array([2**14])}, value=silent, mantissa=silent, exponent=silent)
        assert found["p"].tolist() == [0, 0, 0]

    def test_every_projection_gets_its_own_gain_and_format(self) -> None:
        ports = (ScaledPort("i", QFormat(12, 4), 10, 10), ScaledPort("f", QFormat(8, 2), 11, 10))
        constants = {"gain_i": np.array([2**10, 2**11]), "gain_f": np.array([2**11, 2**12])}
        ones = np.ones(2, dtype=np.int64)
        program = scale_program(QFormat(16, 10), ports, LOIHI2)
        # The root 2**14 * 2**-(15 + 5) * 2**10 is 16: a = x * 16 * gain.
        found = run(program, constants, value=1024 * ones, mantissa=2**14 * ones, exponent=5 * ones)
        assert found["i"].tolist() == [16 * 2**4, 32 * 2**4]
        assert found["f"].tolist() == [16 * 2**2, 31.75 * 2**2]


@some
@given(random=seeds, spread=st.floats(0.01, 1.0))
def test_the_programs_together_are_a_norm(random: np.random.Generator, spread: float) -> None:
    columns = 64
    value, form = QFormat(16, 12), QFormat(12, 8)
    x = random.normal(0, spread * value.max_value / 4, columns)
    x_int = np.clip(np.floor(x * 2**value.frac + 0.5), -value.max_int, value.max_int).astype(np.int64)
    gains, out_gains = random.uniform(0.5, 1.5, (2, columns))
    half_bits = square_half_bits(columns, LOIHI2)
    # Twice the largest gained value fits what is squared.
    squared = QFormat.covering(half_bits + 1, value.max_value * 1.5)
    statistic_gains, gain_shift = fit_multipliers(gains * 2.0 ** (squared.frac - value.frac))
    multipliers, gain_frac = fit_multipliers(out_gains * math.sqrt(columns))

    sent = run(
        embedding_program(value, Squares(half_bits, 0), gain_shift),
        {"statistic_gain": statistic_gains.astype(np.int64)},
        token=x_int,
    )
    sums = {part: sent[f"square_{part}"].sum(keepdims=True) for part in ("high", "low")}
    assert max(sums.values()) <= LARGEST_SUM
    root = run(rms_program(half_bits, 0, LOIHI2), sum_high=sums["high"], sum_low=sums["low"])
    broadcast = {name: np.repeat(part, columns) for name, part in root.items()}
    port = ScaledPort("p", form, gain_frac, squared.frac)
    program = scale_program(value, (port,), LOIHI2)
    found = run(program, {"gain_p": multipliers.astype(np.int64)}, value=x_int, **broadcast)["p"]

    real = x_int * value.scale
    statistic = np.sqrt(np.mean((real * gains) ** 2))
    exact = real / statistic * out_gains * 2.0**form.frac
    # The gains are rounded (2**-15 of the largest), each squared value to half a unit of its format.
    relative = ROOT_ERROR + 2 * 3 * 2.0**-15 + 0.5 * squared.scale / statistic
    assert np.all(np.abs(found - np.clip(exact, -form.max_int, form.max_int)) <= 0.75 + relative * np.abs(exact))

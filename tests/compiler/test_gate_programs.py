"""The programs with a sigmoid in them: MLGRU and GLU, each result within a bound derived from its roundings.

Every bound adds up what each rounding on the way can change, in real units; functions are monotone or
Lipschitz with the constants below, and clamping never makes a difference larger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.compiler.programs import (
    GluFormats,
    MlGruFormats,
    Squares,
    glu_program,
    mlgru_program,
)
from loihi_mmfree.fixedpoint.interpreter import Machine, run_program
from loihi_mmfree.fixedpoint.program import Program
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.fixedpoint.requantizer import Requantizer
from loihi_mmfree.fixedpoint.tables import sigmoid_table
from loihi_mmfree.loihi2.hardware import LOIHI2

TABLES = {"sigmoid": sigmoid_table().astype(np.int64)}
ONE = 2**15
SIGMOID_ERROR = 2.55 / ONE
"""Interpolated sigmoid: chord 1.54, table 0.5, reading between entries 0.5, tail beyond 16 less than 0.01."""
SIGMOID_SLOPE, SWISH_SLOPE = 0.25, 1.1
GUARD_UNIT = 2.0**-4
"""A swish is kept to 4 bits more than its argument."""
IDENTITY = Requantizer(2**14, 14)
LARGEST_ACCUMULATOR = 2**23 - 1
NEURONS = 64

some = settings(max_examples=100, deadline=None)
seeds = st.integers(0, 2**32).map(np.random.default_rng)
formats = st.builds(QFormat, st.integers(8, 24), st.integers(0, 20))


def formats_of_product(one: QFormat, other: QFormat) -> st.SearchStrategy[QFormat]:
    """Formats that are not so much finer than the factors that the product's integer has no room in a register."""
    return st.builds(QFormat, st.integers(8, 24), st.integers(0, min(20, one.frac + other.frac + 15)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def clipped(x: np.ndarray, form: QFormat) -> np.ndarray:
    return np.clip(x, -form.max_value, form.max_value)


def swish_error(x: np.ndarray, form: QFormat) -> np.ndarray:
    """Of the swish of an exact argument: its sigmoid, and one rounding to the guard unit."""
    return np.abs(x) * SIGMOID_ERROR + 0.5 * GUARD_UNIT * form.scale


def run(
    program: Program,
    constants: dict[str, np.ndarray] | None = None,
    states: dict[str, np.ndarray] | None = None,
    **inputs: np.ndarray,
) -> dict[str, np.ndarray]:
    """Run time steps [T, n], or one [n], with every register held against its declared width."""
    machine = Machine(constants or {}, TABLES, strict=True)
    sequence = {name: np.atleast_2d(value).astype(np.int64) for name, value in inputs.items()}
    outputs = run_program(program, machine, sequence, {} if states is None else states)
    assert machine.counters.overflows == 0
    return outputs


def cell(forget: QFormat, input_format: QFormat | None = None, bounded: bool = False) -> Program:
    """An MLGRU with a 24-bit state whose input and forget formats are those of the accumulators."""
    wide = QFormat(24, 15)
    form = MlGruFormats(
        input_format or wide, forget, wide, wide, QFormat(16, 8), IDENTITY, IDENTITY, gate_shift=14
    )  # fmt: skip
    return mlgru_program(form, bounded, Squares(15, 0), LOIHI2)


def forget_gate(x: np.ndarray, frac: int) -> np.ndarray:
    """The forget gate of the integers x, seen in a state of 1.0 which nothing is added to."""
    states = {"h": np.full(len(x), ONE)}
    silent = np.zeros(len(x), dtype=np.int64)
    run(cell(QFormat(24, frac)), {"gate": np.array([1])}, states, i=silent, f=x, g=silent)
    return states["h"]


class TestSigmoid:
    @pytest.mark.parametrize("frac", [-2, 0, 3, 4, 5, 6, 8, 12, 16, 19])
    def test_is_within_its_error_everywhere(self, frac: int) -> None:
        x = np.unique(
            np.linspace(-min(40.0 * 2.0**frac, 2**23 - 1), min(40.0 * 2.0**frac, 2**23 - 1), 20001).round()
        )
        exact = sigmoid(x / 2.0**frac)
        assert np.max(np.abs(forget_gate(x, frac) / ONE - exact)) <= SIGMOID_ERROR

    @pytest.mark.parametrize("frac", [-2, 0, 3, 4])
    def test_at_the_points_of_the_table_is_the_nearest_integer(self, frac: int) -> None:
        x = np.arange(-(20 * 2**4), 20 * 2**4)
        exact = ONE * sigmoid(x / 2.0**frac)
        assert np.max(np.abs(forget_gate(x, frac) - exact)) <= 0.51

    @pytest.mark.parametrize("frac", [2, 4, 7, 12])
    def test_of_a_number_and_its_opposite_add_up_to_one(self, frac: int) -> None:
        x = np.arange(1, 20 * 2**frac, max(1, 2**frac // 64))
        assert np.all(forget_gate(x, frac) + forget_gate(-x, frac) == ONE)

    @pytest.mark.parametrize("frac", [2, 4, 7, 11])
    def test_never_falls(self, frac: int) -> None:
        x = np.arange(-20 * 2**frac, 20 * 2**frac)
        assert np.all(np.diff(forget_gate(x, frac)) >= 0)

    def test_stays_between_nothing_and_all_at_the_ends_of_the_format(self) -> None:
        ends = np.array([-(2**23) + 1, 2**23 - 1])
        assert forget_gate(ends, 10).tolist() == [0, ONE]


@st.composite
def cells(draw: st.DrawFn) -> MlGruFormats:
    scales = st.floats(2.0**-12, 2.0**-2)
    gate, state = draw(formats), draw(formats)
    return MlGruFormats(
        input=draw(formats),
        forget=draw(formats),
        gate=gate,
        state=state,
        output=draw(formats_of_product(gate, state)),
        input_requantizer=Requantizer.from_scale(draw(scales)),
        forget_requantizer=Requantizer.from_scale(draw(scales)),
        gate_shift=draw(st.integers(14, 24)),
    )


@dataclass(frozen=True)
class Step:
    """Random accumulators, constants and state of one time step of a cell."""

    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    h: np.ndarray
    gate: np.ndarray
    bound: np.ndarray

    @classmethod
    def draw(cls, random: np.random.Generator, state: QFormat) -> Step:
        i, f, g = (
            random.integers(-LARGEST_ACCUMULATOR, LARGEST_ACCUMULATOR, NEURONS) >> random.integers(0, 16)
            for _ in range(3)
        )
        h = random.integers(-state.max_int, state.max_int, NEURONS, endpoint=True)
        gate = random.integers(-ONE + 1, ONE, NEURONS)
        return cls(i, f, g, h, gate, bound=random.integers(0, ONE, NEURONS, endpoint=True))


def run_cell(form: MlGruFormats, step: Step, bounded: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The state after one time step and what is sent, in real units."""
    states = {"h": step.h.copy()}
    constants = {"gate": step.gate, "lower_bound": step.bound}
    program = mlgru_program(form, bounded, Squares(15, 8), LOIHI2)
    sent = run(program, constants, states, i=step.i, f=step.f, g=step.g)["out"][0]
    return states["h"] * form.state.scale, sent * form.output.scale


class TestMlGru:
    @some
    @given(form=cells(), random=seeds, bounded=st.booleans())
    def test_the_state_is_the_convex_combination_of_equations_7_to_10(
        self, form: MlGruFormats, random: np.random.Generator, bounded: bool
    ) -> None:
        step = Step.draw(random, form.state)
        i = clipped(step.i * form.input_requantizer.scale * form.input.scale, form.input)
        f = clipped(step.f * form.forget_requantizer.scale * form.forget.scale, form.forget)
        lower = step.bound / ONE if bounded else 0.0
        forget = lower + (1 - lower) * sigmoid(f)
        candidate = clipped(silu(i), form.state)
        h = step.h * form.state.scale
        exact = forget * h + (1 - forget) * candidate

        forget_error = SIGMOID_SLOPE * 0.5 * form.forget.scale + SIGMOID_ERROR + (0.5 / ONE if bounded else 0)
        half_input = 0.5 * form.input.scale
        candidate_error = (
            SWISH_SLOPE * half_input + swish_error(np.abs(i) + half_input, form.input) + 0.5 * form.state.scale
        )
        bound = forget_error * (np.abs(h - candidate) + candidate_error) + candidate_error + 0.5 * form.state.scale
        found, _ = run_cell(form, step, bounded)
        assert np.all(np.abs(found - exact) <= bound)

    @some
    @given(form=cells(), random=seeds)
    def test_what_is_sent_is_the_gate_times_the_swish_of_the_new_state(
        self, form: MlGruFormats, random: np.random.Generator
    ) -> None:
        step = Step.draw(random, form.state)
        h, sent = run_cell(form, step)
        g = clipped(step.g * step.gate * 2.0**-form.gate_shift * form.gate.scale, form.gate)
        exact = clipped(g * silu(h), form.output)
        half_gate = 0.5 * form.gate.scale
        bound = (
            half_gate * np.abs(silu(h))
            + (np.abs(g) + half_gate) * swish_error(h, form.state)
            + 0.5 * form.output.scale
        )
        assert np.all(np.abs(sent - exact) <= bound * (1 + 1e-9))

    def test_the_forget_gate_of_a_layer_with_bounds_never_falls_below_them(self) -> None:
        x = np.linspace(-(2**18), 2**18, 1001).round()
        silent = np.zeros_like(x)
        for lower in (0, 1, 9000, ONE - 1, ONE):
            states = {"h": np.full(len(x), ONE)}
            constants = {"gate": np.array([1]), "lower_bound": np.array([lower])}
            run(cell(QFormat(24, 12), bounded=True), constants, states, i=silent, f=x, g=silent)
            assert states["h"].min() >= lower
            assert states["h"].max() <= ONE

    def test_a_closed_forget_gate_replaces_the_state_and_an_open_one_keeps_it(self) -> None:
        program = cell(QFormat(24, 15))
        for f, expected in ((-(2**23) + 1, [0, 0]), (2**23 - 1, [-77, 2**23 - 1])):
            states = {"h": np.array([-77, 2**23 - 1])}
            run(program, {"gate": np.array([1])}, states, i=np.zeros(2), f=np.array([f, f]), g=np.zeros(2))
            assert states["h"].tolist() == expected

    @settings(max_examples=5, deadline=None)
    @given(random=seeds, bits=st.integers(8, 24))
    def test_the_state_never_leaves_the_hull_of_what_it_was_fed(
        self, random: np.random.Generator, bits: int
    ) -> None:
        tokens, input_format = 1500, QFormat(bits, bits - 4)
        program = cell(QFormat(24, 15), input_format)
        i = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (tokens, NEURONS))
        # Gates that are shut, open, and nearly open, where a state lives longest.
        f = random.choice([-(2**20), 0, 2**17, 2**18, 2**20], (tokens, NEURONS))
        silent, gate = np.zeros((tokens, NEURONS)), {"gate": np.array([1])}
        # A shut forget gate shows what a token feeds; every token on a neuron of its own.
        fed = {"h": np.zeros(tokens * NEURONS, dtype=np.int64)}
        shut = np.full(tokens * NEURONS, -(2**23) + 1)
        run(program, gate, fed, i=i.ravel(), f=shut, g=silent.ravel())
        low = np.minimum(np.minimum.accumulate(fed["h"].reshape(i.shape)), 0)
        high = np.maximum(np.maximum.accumulate(fed["h"].reshape(i.shape)), 0)
        lived = {"h": np.zeros(NEURONS, dtype=np.int64)}
        for step in range(0, tokens, 50):
            window = slice(step, step + 50)
            run(program, gate, lived, i=i[window], f=f[window], g=silent[window])
            last = window.stop - 1
            assert np.all((lived["h"] >= low[last]) & (lived["h"] <= high[last]))


@st.composite
def gated_units(draw: st.DrawFn) -> GluFormats:
    scales = st.floats(2.0**-12, 2.0**-2)
    gate, up = draw(formats), draw(formats)
    return GluFormats(
        gate=gate,
        up=up,
        output=draw(formats_of_product(gate, up)),
        gate_requantizer=Requantizer.from_scale(draw(scales)),
        up_requantizer=Requantizer.from_scale(draw(scales)),
    )


class TestGlu:
    @some
    @given(form=gated_units(), random=seeds)
    def test_is_the_swish_of_the_gate_times_the_other_half(
        self, form: GluFormats, random: np.random.Generator
    ) -> None:
        gate, up = (
            random.integers(-LARGEST_ACCUMULATOR, LARGEST_ACCUMULATOR, NEURONS) >> random.integers(0, 16)
            for _ in range(2)
        )
        found = run(glu_program(form, Squares(15, 8), LOIHI2), gate=gate, up=up)["out"][0] * form.output.scale
        x = clipped(gate * form.gate_requantizer.scale * form.gate.scale, form.gate)
        other = clipped(up * form.up_requantizer.scale * form.up.scale, form.up)
        exact = clipped(silu(x) * other, form.output)
        half_gate, half_up = 0.5 * form.gate.scale, 0.5 * form.up.scale
        swish = SWISH_SLOPE * half_gate + swish_error(np.abs(x) + half_gate, form.gate)
        bound = swish * (np.abs(other) + half_up) + half_up * np.abs(silu(x)) + 0.5 * form.output.scale
        assert np.all(np.abs(found - exact) <= bound * (1 + 1e-9))

    @some
    @given(form=gated_units(), random=seeds, half_bits=st.integers(4, 15), shift=st.integers(0, 12))
    def test_its_squares_recombine_to_those_of_the_rounded_and_clipped_result(
        self, form: GluFormats, random: np.random.Generator, half_bits: int, shift: int
    ) -> None:
        gate, up = random.integers(-LARGEST_ACCUMULATOR, LARGEST_ACCUMULATOR, (2, NEURONS))
        found = run(glu_program(form, Squares(half_bits, shift), LOIHI2), gate=gate, up=up)
        rounded = np.floor(found["out"] / 2.0**shift + 0.5)
        kept = np.clip(rounded, -(2**half_bits) + 1, 2**half_bits - 1)
        assert np.array_equal(found["square_high"] * 2.0**half_bits + found["square_low"], kept**2)

    def test_is_silent_where_either_half_is(self) -> None:
        form = QFormat(16, 8)
        program = glu_program(GluFormats(form, form, form, IDENTITY, IDENTITY), Squares(15, 0), LOIHI2)
        found = run(program, gate=np.array([0, 5000]), up=np.array([5000, 0]))
        assert found["out"].tolist() == [[0, 0]]

"""Ternary codes: packing, and dot products that are exact whatever the numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from loihi_mmfree.fixedpoint.ternary import (
    FLOAT32_EXACT_LIMIT,
    check_packed,
    dot_bounds,
    pack_ternary,
    ternary_dot,
    unpack_ternary,
)

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 19))
CODES = SHAPES.flatmap(lambda shape: arrays.arrays(np.int8, shape, elements=st.integers(-1, 1)))

some = settings(max_examples=100, deadline=None)


def python_dot(activations: list[int], codes: np.ndarray) -> list[int]:
    return [sum(a * int(w) for a, w in zip(activations, row, strict=True)) for row in codes]


class TestPacking:
    @some
    @given(codes=CODES)
    def test_unpacking_gives_the_codes_back_for_any_width(self, codes: np.ndarray) -> None:
        unpacked = unpack_ternary(pack_ternary(codes), codes.shape[1])
        assert unpacked.dtype == np.int8
        assert np.array_equal(unpacked, codes)

    @some
    @given(codes=CODES)
    def test_four_codes_take_one_byte_and_a_row_starts_on_one(self, codes: np.ndarray) -> None:
        packed = pack_ternary(codes)
        assert packed.dtype == np.uint8
        assert packed.shape == (codes.shape[0], (codes.shape[1] + 3) // 4)

    def test_the_first_code_is_in_the_lowest_bits_and_a_code_is_stored_plus_one(self) -> None:
        codes = np.array([[-1, 0, 1, -1, 1]], dtype=np.int8)
        assert pack_ternary(codes).tolist() == [[0b00_10_01_00, 0b01_01_01_10]]

    @pytest.mark.parametrize("wrong", [-2, 2])
    def test_packing_refuses_what_is_no_code(self, wrong: int) -> None:
        with pytest.raises(ValueError, match="-1, 0 and 1"):
            pack_ternary(np.array([[0, wrong]], dtype=np.int8))

    @pytest.mark.parametrize("read", [unpack_ternary, check_packed])
    @pytest.mark.parametrize("place", [0, 2, 4, 6])
    def test_a_field_of_three_is_refused(self, read: Callable[..., object], place: int) -> None:
        with pytest.raises(ValueError, match="3, which is no ternary code"):
            read(np.array([[0, 3 << place]], dtype=np.uint8), 8)

    def test_every_byte_of_four_codes_is_accepted_and_no_other(self) -> None:
        for byte in range(256):
            fields = [byte >> place & 3 for place in (0, 2, 4, 6)]
            packed = np.array([[byte]], dtype=np.uint8)
            if 3 in fields:
                with pytest.raises(ValueError, match="no ternary code"):
                    check_packed(packed, 4)
            else:
                check_packed(packed, 4)

    @pytest.mark.parametrize(("columns", "shape"), [(5, (1, 1)), (3, (1, 2)), (4, (2,)), (8, (1, 1, 2))])
    @pytest.mark.parametrize("read", [unpack_ternary, check_packed])
    def test_a_width_that_does_not_belong_is_refused(
        self, read: Callable[..., object], columns: int, shape: tuple[int, ...]
    ) -> None:
        with pytest.raises(ValueError, match="bytes, found shape"):
            read(np.zeros(shape, dtype=np.uint8), columns)


class TestDot:
    @some
    @given(codes=CODES, data=st.data())
    def test_is_the_dot_product_of_python_integers(self, codes: np.ndarray, data: st.DataObject) -> None:
        magnitude = data.draw(st.sampled_from([1, 2047, 2**20, 2**24, 2**31, 2**46]))
        entries = st.integers(-magnitude, magnitude) | st.sampled_from([-magnitude, magnitude])
        columns = codes.shape[1]
        tokens = data.draw(st.lists(st.lists(entries, min_size=columns, max_size=columns), min_size=1, max_size=3))
        found = ternary_dot(np.array(tokens, dtype=np.int64), codes)
        assert found.tolist() == [python_dot(token, codes) for token in tokens]

    def test_is_exact_where_float32_would_round(self) -> None:
        activations = np.array([[FLOAT32_EXACT_LIMIT, 1, 1]])
        codes = np.array([[1, 1, 0], [1, 1, 1], [-1, -1, 0]], dtype=np.int8)
        expected = [FLOAT32_EXACT_LIMIT + 1, FLOAT32_EXACT_LIMIT + 2, -FLOAT32_EXACT_LIMIT - 1]
        assert ternary_dot(activations, codes).tolist() == [expected]
        assert activations.astype(np.float32).sum(dtype=np.float32) != FLOAT32_EXACT_LIMIT + 2

    @pytest.mark.parametrize("columns", [2048, 2816])
    def test_is_exact_for_the_widest_rows_at_the_largest_accumulators(self, columns: int) -> None:
        random = np.random.default_rng(columns)
        codes = random.integers(-1, 2, (8, columns)).astype(np.int8)
        activations = random.integers(-(2**23), 2**23, (2, columns))
        expected = [python_dot(row, codes) for row in activations.tolist()]
        assert ternary_dot(activations, codes).tolist() == expected


class TestBounds:
    @some
    @given(codes=CODES, data=st.data())
    def test_are_attained_by_the_input_that_sides_with_every_weight(
        self, codes: np.ndarray, data: st.DataObject
    ) -> None:
        columns = codes.shape[1]
        ends = st.tuples(st.integers(-(2**23), 2**23), st.integers(-(2**23), 2**23)).map(sorted)
        pairs = data.draw(st.lists(ends, min_size=columns, max_size=columns))
        low, high = np.array(pairs, dtype=np.int64).T
        least, greatest = dot_bounds(codes, low, high)
        for row, code in enumerate(codes):
            largest_input = np.where(code > 0, high, low)
            smallest_input = np.where(code > 0, low, high)
            assert greatest[row] == python_dot(largest_input.tolist(), codes)[row]
            assert least[row] == python_dot(smallest_input.tolist(), codes)[row]

    @some
    @given(codes=CODES, data=st.data())
    def test_hold_for_every_input_between_the_ends(self, codes: np.ndarray, data: st.DataObject) -> None:
        columns = codes.shape[1]
        limit = data.draw(st.integers(0, 2**23))
        inside = data.draw(st.lists(st.integers(-limit, limit), min_size=columns, max_size=columns))
        least, greatest = dot_bounds(codes, np.array([-limit]), np.array([limit]))
        for row, value in enumerate(python_dot(inside, codes)):
            assert least[row] <= value <= greatest[row]

"""The packed ternary kernels give the integers of the NumPy specification."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from loihi_mmfree.fixedpoint.ternary import pack_ternary, ternary_dot
from loihi_mmfree.sim.engine.kernels import conventions as layout

pytest.importorskip("numba")

import itertools

from loihi_mmfree.sim.engine.kernels.products import ternary as kernels

SHAPES = [
    (1, 1),
    (1, 4),
    (3, 7),
    (4, 64),
    (5, 255),
    (7, 256),
    (9, 257),
    (13, 300),
    (6, 1030),
    (33, 704),
    (5, 128),
    (7, 321),
]
BITS = [2, 8, 12, 14, 16, 17, 22]


def random_case(rows: int, columns: int, bits: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(rows * 1000 + columns * 10 + bits + tokens)
    limit = 2 ** (bits - 1) - 1
    activations = random.integers(-limit, limit, size=(tokens, columns), endpoint=True)
    return random.integers(-1, 2, size=(rows, columns)).astype(np.int8), activations


def vector_product(codes: np.ndarray, activations: np.ndarray, bits: int, parts: int = 1) -> np.ndarray:
    rows, columns = codes.shape
    packed, digits = pack_ternary(codes), layout.digits_for(bits)
    planes = np.zeros(layout.vector_planes_bytes(columns, digits), dtype=np.int8)
    padded = np.zeros(-(-columns // 4) * 4, dtype=np.int32)
    padded[:columns] = activations
    ends = [min(columns, -(-columns * part // parts // 4) * 4) for part in range(parts + 1)]
    total = sum(kernels.split_vector(padded, *pair, digits, planes) for pair in itertools.pairwise(ends))
    out = np.full(rows, -1, dtype=np.int32)
    scratch = np.empty(96, dtype=np.int32)
    for low, high in ((0, rows // 2), (rows // 2, rows)):
        kernels.multiply_vector(
            packed.ctypes.data, packed.shape[1], rows, low, high, planes, digits, total, out, scratch
        )
    return out


def matrix_product(codes: np.ndarray, activations: np.ndarray, bits: int, parts: int = 1) -> np.ndarray:
    (rows, columns), tokens = codes.shape, len(activations)
    packed, digits = pack_ternary(codes), layout.digits_for(bits)
    planes = np.full(layout.matrix_planes_words(columns, digits, tokens), 0x55AA55AA, dtype=np.int32)
    totals = np.zeros((parts, tokens), dtype=np.int32)
    values = activations.astype(np.int32).reshape(-1)
    ends = [min(columns, -(-columns * part // parts // 4) * 4) for part in range(parts + 1)]
    for part in range(parts):
        kernels.split_matrix(
            values, tokens, columns, columns, ends[part], ends[part + 1], digits, planes, totals[part]
        )
    out = np.full(tokens * rows, -1, dtype=np.int32)
    tile = np.zeros(layout.TILE_ROWS * packed.shape[1], dtype=np.int32)
    scratch = np.empty(layout.TILE_ROWS * 64, dtype=np.int32)
    for low, high in ((0, rows // 2), (rows // 2, rows)):
        kernels.multiply_matrix(
            packed.ctypes.data, packed.shape[1], rows, low, high, tokens, planes, digits,
            totals.reshape(-1), parts, out, tile, scratch,
        )  # fmt: skip
    return out.reshape(tokens, rows)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_one_vector_of_any_length(rows: int, columns: int, bits: int) -> None:
    codes, activations = random_case(rows, columns, bits, 1)
    np.testing.assert_array_equal(vector_product(codes, activations[0], bits), ternary_dot(activations, codes)[0])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("tokens", [1, 2, 17, 33, 65])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_many_vectors_of_any_length(rows: int, columns: int, tokens: int, bits: int) -> None:
    codes, activations = random_case(rows, columns, bits, tokens)
    np.testing.assert_array_equal(matrix_product(codes, activations, bits), ternary_dot(activations, codes))


@pytest.mark.parametrize("parts", [2, 3])
def test_activations_split_by_several_threads(parts: int) -> None:
    codes, activations = random_case(9, 530, 12, 5)
    expected = ternary_dot(activations, codes)
    np.testing.assert_array_equal(vector_product(codes, activations[0], 12, parts), expected[0])
    np.testing.assert_array_equal(matrix_product(codes, activations, 12, parts), expected)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("sign", [-1, 0, 1])
def test_activations_and_weights_at_their_bounds(bits: int, sign: int) -> None:
    activations = np.full((3, 300), sign * (2 ** (bits - 1) - 1))
    codes = np.vstack([np.full((2, 300), value, dtype=np.int8) for value in (-1, 0, 1)])
    expected = ternary_dot(activations, codes)
    np.testing.assert_array_equal(vector_product(codes, activations[0], bits), expected[0])
    np.testing.assert_array_equal(matrix_product(codes, activations, bits), expected)


@pytest.mark.parametrize("bits", range(2, 29))
def test_digits_hold_the_widest_value(bits: int) -> None:
    limit = 2 ** (bits - 1) - 1
    codes = np.array([[1], [-1], [0]], dtype=np.int8)
    for value in (limit, -limit, -limit - 1):
        np.testing.assert_array_equal(vector_product(codes, np.array([value]), bits), [value, -value, 0])


def test_more_than_28_bits_are_left_to_the_specification() -> None:
    assert layout.digits_for(29) == 0


GUARDED = """
import ctypes, mmap, sys
import numpy as np
from loihi_mmfree.sim.engine.kernels import conventions as layout
from loihi_mmfree.sim.engine.kernels.products import ternary
page = mmap.PAGESIZE
memory = mmap.mmap(-1, 2 * page)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + page), page, 0) == 0
for shape in sys.argv[1:]:
    print(shape, flush=True)
    rows, columns = map(int, shape.split("x"))
    stride, digits = -(-columns // 4), layout.digits_for(12)
    planes = np.zeros(layout.vector_planes_bytes(columns, digits), dtype=np.int8)
    total = ternary.split_vector(np.ones(columns + 4, dtype=np.int32), 0, columns, digits, planes)
    out = np.zeros(rows, dtype=np.int32)
    packed = start + page - rows * stride
    buffer = np.empty(96, dtype=np.int32)
    ternary.multiply_vector(packed, stride, rows, 0, rows, planes, digits, total, out, buffer)
    assert (out == -columns).all(), out
"""
"""Matrices of packed zeros, codes of -1, that end where memory does; a read behind one ends the process."""


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
def test_nothing_behind_the_weights_is_read() -> None:
    shapes = ["7x300", "8x256", "5x4", "2x1000"]
    found = subprocess.run([sys.executable, "-c", GUARDED, *shapes], stdout=subprocess.PIPE, text=True)
    assert (found.returncode, found.stdout.split()) == (0, shapes)

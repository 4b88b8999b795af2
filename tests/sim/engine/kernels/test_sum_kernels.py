"""Products by looked-up sums give the integers of the NumPy specification, wherever a machine can look them up."""

from __future__ import annotations

import numpy as np
import pytest

from loihi_mmfree.fixedpoint.ternary import pack_ternary, ternary_dot
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.engine.kernels import conventions as layout

pytest.importorskip("numba")

from loihi_mmfree.sim.engine import core as fast_core
from loihi_mmfree.sim.engine.compiled import FastEngine
from loihi_mmfree.sim.engine.kernels.products import sums as kernels
from loihi_mmfree.sim.engine.kernels.runtime.objects import processor
from loihi_mmfree.sim.engine.specification import Engine

SHAPES = [
    (1, 1),
    (1, 4),
    (3, 7),
    (4, 11),
    (5, 12),
    (31, 13),
    (32, 191),
    (33, 192),
    (63, 193),
    (64, 255),
    (65, 256),
    (7, 257),
    (97, 300),
    (33, 704),
    (6, 1030),
    (700, 61),
]
LIMIT = 2 ** (layout.SUM_BITS - 1)

words = pytest.mark.skipif(
    not layout.has_word_permutation(processor()[1]), reason="no permutation of words: sums are not looked up here"
)


def product(codes: np.ndarray, activations: np.ndarray, parts: int = 1) -> np.ndarray:
    """Multiply as a plan does, in room that was used before; in `parts` of the columns and two of the rows."""
    (rows, columns), tokens = codes.shape, len(activations)
    packed = pack_ternary(codes)
    stride = packed.shape[1]
    tables = np.full(layout.sum_tables_words(columns, tokens), 0x55AA55AA, dtype=np.int32)
    room = np.full(layout.sum_codes_words(stride), 0x7FFF7FFF, dtype=np.int32)
    scratch = np.full(layout.SCRATCH, -1, dtype=np.int32)
    values = activations.astype(np.int32).reshape(-1)
    units = -(-columns // layout.UNIT_COLUMNS)
    for part in range(parts):
        low, high = units * part // parts, units * (part + 1) // parts
        kernels.tabulate_sums(values, tokens, columns, columns, low, high, tables, scratch)
    out = np.full(tokens * rows, -1, dtype=np.int32)
    for low, high in ((0, rows // 2), (rows // 2, rows)):
        kernels.multiply_sums(packed.ctypes.data, stride, rows, low, high, tokens, tables, out, room, scratch)
    return out.reshape(tokens, rows)


@words
@pytest.mark.parametrize("tokens", [1, 2, 8, 17, 33, 65, 200])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_many_vectors_of_any_length(rows: int, columns: int, tokens: int) -> None:
    random = np.random.default_rng(rows * 1000 + columns + tokens)
    activations = random.integers(-LIMIT, LIMIT, size=(tokens, columns))
    codes = random.integers(-1, 2, size=(rows, columns)).astype(np.int8)
    np.testing.assert_array_equal(product(codes, activations), ternary_dot(activations, codes))


@words
def test_more_rows_and_columns_than_are_done_at_a_time() -> None:
    random = np.random.default_rng(0)
    columns = 4 * layout.UNIT_BYTES * layout.UNITS_TOGETHER * 20 + 5
    rows = 2 * layout.sum_rows(layout.padded_units(-(-columns // 4))) + 70
    activations = random.integers(-LIMIT, LIMIT, size=(9, columns))
    codes = random.integers(-1, 2, size=(rows, columns)).astype(np.int8)
    expected = activations.astype(np.float64) @ codes.T.astype(np.float64)
    np.testing.assert_array_equal(product(codes, activations), expected)


@words
@pytest.mark.parametrize("parts", [2, 3, 50])
def test_tables_written_by_several_threads(parts: int) -> None:
    random = np.random.default_rng(parts)
    activations = random.integers(-LIMIT, LIMIT, size=(13, 530))
    codes = random.integers(-1, 2, size=(9, 530)).astype(np.int8)
    np.testing.assert_array_equal(product(codes, activations, parts), ternary_dot(activations, codes))


@words
@pytest.mark.parametrize("value", [-LIMIT, 1 - LIMIT, LIMIT - 1])
@pytest.mark.parametrize("columns", [12, 24, 300, 2816])
def test_every_sum_on_the_way_at_its_bound(columns: int, value: int) -> None:
    activations = np.full((9, columns), value)
    codes = np.vstack([np.full((2, columns), code, dtype=np.int8) for code in (-1, 0, 1)])
    np.testing.assert_array_equal(product(codes, activations), ternary_dot(activations, codes))


@words
def test_each_of_three_weights_in_every_place() -> None:
    codes = np.array(list(np.ndindex(3, 3, 3)), dtype=np.int8) - 1
    for column in range(0, 60, 3):
        row = np.zeros((27, 60), dtype=np.int8)
        row[:, column : column + 3] = codes
        activations = np.arange(8 * 60).reshape(8, 60) - 200
        np.testing.assert_array_equal(product(row, activations), ternary_dot(activations, row))


@pytest.mark.parametrize("sums", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_with_sums_and_without(
    tiny_net: Net, monkeypatch: pytest.MonkeyPatch, sums: bool, threads: int
) -> None:
    monkeypatch.setattr(fast_core, "looks_up_sums", lambda name, features: sums)
    ids = np.random.default_rng(3).integers(0, 512, 140)
    specification, fast = Engine(tiny_net.graph, strict=True), FastEngine(tiny_net.graph, True, threads)
    for part in (ids[:9], ids[9:139], ids[139:]):
        np.testing.assert_array_equal(fast.process(part), specification.process(part))
    assert fast.counters == specification.counters
    fast.close()


def test_sums_are_looked_up_where_it_is_faster() -> None:
    assert layout.looks_up_sums("znver4", "+avx512f,+avx512bw")
    assert not layout.looks_up_sums("znver3", "+avx2,-avx512bw")
    assert not layout.looks_up_sums("sapphirerapids", "+avx512f,+avx512bw")
    assert not layout.looks_up_sums("generic", "")


def test_indices_of_long_rows_stay_within_the_cache() -> None:
    for stride in (1, 48, 256, 704, 1728, 4096):
        units = layout.padded_units(stride)
        assert 3 * units >= stride
        assert layout.sum_rows(units) % layout.ROW_PAIR == 0
        assert layout.sum_codes_words(stride) <= layout.SUM_CODES

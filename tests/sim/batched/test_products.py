"""Products of the matrix units are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.fixedpoint.ternary import pack_ternary
from loihi_mmfree.sim.batched import products
from loihi_mmfree.sim.batched.products import code_table, digits_for, multiply, probe, unpack

CPU = torch.device("cpu")


@pytest.mark.parametrize("bits", [2, 8, 12, 13, 16, 24, 32])
@pytest.mark.parametrize("columns", [1, 3, 1024, 2816, 6912, 9000])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_digits_are_held_exactly_and_their_sums_too(bits: int, columns: int, dtype: torch.dtype) -> None:
    digits = digits_for(bits, columns, dtype)
    limit = (1 << (bits - 1)) - 1
    values = torch.tensor([limit, -limit, 0, 1, -1, limit // 3, -limit // 3, -limit - 1])
    cut = list(digits.cut(values, dtype))
    assert len(cut) == digits.count
    joined = sum(digit.to(torch.int64) << (digits.bits * place) for place, digit in enumerate(cut))
    assert torch.equal(joined, values)
    assert max(float(digit.abs().max()) for digit in cut) * columns <= 2**24


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 5), (8, 64), (5, 127)])
def test_unpacked_codes_multiply_as_the_codes_do(rows: int, columns: int) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(-1, 2, (rows, columns), dtype=np.int8)
    values = random.integers(-2047, 2048, (4, columns))
    weights = unpack(torch.from_numpy(pack_ternary(codes)), columns, code_table(CPU, torch.float32))
    found = multiply(torch.from_numpy(values).to(torch.float32), weights)
    np.testing.assert_array_equal(found.numpy().astype(np.int64), values @ codes.T.astype(np.int64))


def test_a_device_that_adds_up_in_less_than_float32_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    probe(CPU, torch.float32, 2816)
    monkeypatch.setattr(products, "multiply", lambda a, b: multiply(a.bfloat16(), b.bfloat16()).float())
    with pytest.raises(SimulationError, match="products of 2816 whole numbers are not exact on cpu"):
        probe(CPU, torch.float32, 2816)


def test_what_a_user_allowed_for_other_work_is_forbidden_for_products_and_given_back() -> None:
    settings = torch.backends.cuda.matmul
    settings.allow_tf32 = True
    try:
        with products.exact_matrix_units():
            assert not settings.allow_tf32
            assert not settings.allow_fp16_reduced_precision_reduction
        assert settings.allow_tf32
    finally:
        settings.allow_tf32 = False

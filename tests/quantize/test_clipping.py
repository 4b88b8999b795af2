from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.quantize.calibration import observing
from loihi_mmfree.quantize.clipping import least_squares_format, octave_sums, squared_error
from loihi_mmfree.quantize.quantizers import ActivationQuantizer


def true_error(values: np.ndarray, qformat: QFormat) -> float:
    """Oracle: quantize every value and sum the squared errors."""
    integers = np.clip(np.floor(values * 2.0**qformat.frac + 0.5), -qformat.max_int, qformat.max_int)
    return float(np.square(integers * qformat.scale - values).sum())


def heavy_tailed(outlier: float) -> torch.Tensor:
    """Normally distributed values and one outlier."""
    values = torch.randn(20000, generator=torch.Generator().manual_seed(2))
    values[77] = outlier
    return values


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("outlier", [3.0, 9.0, 40.0])
def test_the_format_has_the_least_squared_error_of_all(bits, outlier):
    values = heavy_tailed(outlier)
    covering = QFormat.covering(bits, values.abs().max().item())
    candidates = [QFormat(bits, covering.frac + finer) for finer in range(-1, bits)]
    best = min(candidates, key=lambda candidate: true_error(values.double().numpy(), candidate))
    assert least_squares_format(octave_sums(values), covering) == best


def test_the_estimate_is_close_to_the_true_error():
    values = heavy_tailed(9.0)
    for frac in range(2, 12):
        expected = true_error(values.double().numpy(), QFormat(8, frac))
        assert squared_error(QFormat(8, frac), octave_sums(values)) == pytest.approx(expected, rel=0.1)


@given(st.lists(st.integers(-2000, 2000), min_size=1, max_size=20), st.integers(-4, 4))
@settings(deadline=None)
def test_clipped_and_zeroed_values_count_exactly(integers, octave):
    """Even multiples of the end of the range clip or are zero, and nothing is in between."""
    qformat = QFormat(8, octave)
    values = np.array(integers) * 2.0 ** (8 - octave)
    found = squared_error(qformat, octave_sums(torch.from_numpy(values)))
    assert found == pytest.approx(true_error(values, qformat), rel=1e-9)


def test_an_outlier_clips_only_where_few_bits_make_it_dear():
    values = heavy_tailed(9.0)
    chosen = {}
    for bits in (8, 16):
        quantizer = ActivationQuantizer("site", bits, clip=True).eval()
        with observing(quantizer):
            quantizer(values)
        chosen[bits] = quantizer.scaling.qformat()
    assert chosen[8].max_value < 9.0
    assert chosen[16] == QFormat.covering(16, 9.0)


def test_batches_add_up():
    values = heavy_tailed(9.0)
    parts = octave_sums(values[:5000]) + octave_sums(values[5000:])
    assert torch.allclose(parts, octave_sums(values), rtol=1e-12)


def test_data_of_zeros_keeps_the_covering_format():
    assert least_squares_format(octave_sums(torch.zeros(9)), QFormat(8, 7)) == QFormat(8, 7)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_values_of_extreme_size_keep_a_format_that_holds_them(size):
    covering = QFormat.covering(8, size)
    assert least_squares_format(octave_sums(torch.tensor([size, -size])), covering) == covering

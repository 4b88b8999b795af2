from __future__ import annotations

import numpy as np
import pytest
import torch

from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.quantize.calibration import observing
from loihi_mmfree.quantize.clipping import least_squares_format, magnitude_histogram, squared_error
from loihi_mmfree.quantize.quantizers import ActivationQuantizer


def true_error(values: np.ndarray, qformat: QFormat) -> float:
    """Oracle: quantize every value and sum the squared errors."""
    integers = np.clip(np.floor(values / qformat.scale + 0.5), -qformat.max_int, qformat.max_int)
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
    assert least_squares_format(magnitude_histogram(values), covering) == best


@pytest.mark.parametrize("outlier", [3.0, 40.0])
def test_a_fine_unit_is_about_the_best_of_all_and_better_than_any_power_of_two(outlier):
    values = heavy_tailed(outlier)
    covering = QFormat.covering(6, values.abs().max().item())
    every = [QFormat(6, covering.frac + finer, unit) for finer in range(6) for unit in range(16, 32)]
    errors = {each: true_error(values.double().numpy(), each) for each in every}
    found = errors[least_squares_format(magnitude_histogram(values), covering, fine=True)]
    assert found <= 1.02 * min(errors.values())
    assert found < min(error for each, error in errors.items() if each.sixteenths == 16)


def test_the_estimate_is_close_to_the_true_error():
    values = heavy_tailed(9.0)
    for frac in range(2, 12):
        expected = true_error(values.double().numpy(), QFormat(8, frac))
        assert squared_error(QFormat(8, frac), magnitude_histogram(values)) == pytest.approx(expected, rel=0.1)


def test_clipped_and_vanishing_values_count_in_full():
    """Bins are narrow against such errors: 127 units is the end, half a unit the least that survives."""
    for value in (0.1, 0.4, 140.0, 1000.0):
        values = torch.tensor([value, -value])
        expected = true_error(values.double().numpy(), QFormat(8, 0))
        assert squared_error(QFormat(8, 0), magnitude_histogram(values)) == pytest.approx(expected, rel=0.5)


def test_an_outlier_clips_only_where_few_bits_make_it_dear():
    values = heavy_tailed(9.0)
    chosen = {}
    for bits in (8, 16):
        quantizer = ActivationQuantizer("site", bits, method="least_squares").eval()
        with observing(quantizer):
            quantizer(values)
        chosen[bits] = quantizer.scaling.qformat()
    assert chosen[8].max_value < 9.0
    assert chosen[16] == QFormat.covering(16, 9.0)


def test_batches_add_up():
    values = heavy_tailed(9.0)
    parts = magnitude_histogram(values[:5000]) + magnitude_histogram(values[5000:])
    assert torch.equal(parts, magnitude_histogram(values))
    assert parts.sum() == 20000


def test_data_of_zeros_keeps_the_covering_format():
    assert least_squares_format(magnitude_histogram(torch.zeros(9)), QFormat(8, 7)) == QFormat(8, 7)


@pytest.mark.parametrize("size", [1e-17, 1e30])
def test_values_of_extreme_size_keep_a_format_that_holds_them(size):
    covering = QFormat.covering(8, size)
    assert least_squares_format(magnitude_histogram(torch.tensor([size, -size])), covering) == covering


@pytest.mark.parametrize(("maximum", "close"), [(3.0, False), (2.0**2 - 2.0**-13, True), (3.99, False)])
def test_a_maximum_beside_the_end_of_a_range_is_a_close_call(maximum, close):
    """A format of 16 bits ends at 2**2 - 2**-13: what is a last bit larger takes the next one."""
    quantizer = ActivationQuantizer("site", 16, method="max").eval()
    with observing(quantizer):
        quantizer(torch.tensor([maximum]))
    assert quantizer.scaling.is_close_call() == close


@pytest.mark.parametrize("method", ["least_squares", "fine_least_squares"])
def test_errors_are_a_close_call_if_they_differ_by_less_than_two_models_do(method, monkeypatch):
    quantizer = ActivationQuantizer("site.input", 6, method=method).eval()
    with observing(quantizer):
        quantizer(heavy_tailed(9.0))
    assert not quantizer.scaling.is_close_call()
    monkeypatch.setattr("loihi_mmfree.quantize.quantizers.LAST_BITS", 0.9)
    assert quantizer.scaling.is_close_call()

from __future__ import annotations

import numpy as np
import pytest
import torch

from loihi_mmfree.quantize.quantizers import ternary_codes, ternary_linear

# Upstream's float32 sum over a matrix depends in its last bit on the order of summation; ours is a float64 sum.
TWO_UNITS_IN_THE_LAST_PLACE = 2**-22


def upstream(weight: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Codes and quantized weight by upstream's formula, written out in NumPy float32."""
    values = weight.float().numpy()
    mean = np.float32(weight.float().abs().mean().item())
    steps = np.float32(1) / np.maximum(mean, np.float32(1e-5))
    codes = np.clip(np.rint(values * steps), -1, 1)
    return codes, codes / steps


def quantized(weight: torch.Tensor) -> tuple[np.ndarray, np.float32]:
    codes, scale = ternary_codes(ternary_linear(weight.float()))
    return codes.numpy(), np.float32(scale)


def random_weight(rows: int = 48, columns: int = 80) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(3)) * 0.04


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_codes_are_upstreams_bit_for_bit_and_the_scale_to_two_units_in_its_last_place(dtype):
    weight = random_weight().to(dtype)
    codes, scale = quantized(weight)
    expected_codes, expected_weight = upstream(weight)
    assert np.array_equal(codes, expected_codes)
    np.testing.assert_allclose(codes * scale, expected_weight, rtol=TWO_UNITS_IN_THE_LAST_PLACE)


def test_codes_of_every_projection_of_a_trained_model_are_upstreams(tiny):
    names = [name for name in tiny.names() if name.endswith("_proj.weight") or name == "lm_head.weight"]
    assert len(names) == 25
    for name in names:
        weight = tiny.tensor(name)
        codes, scale = quantized(weight)
        expected_codes, expected_weight = upstream(weight)
        assert np.array_equal(codes, expected_codes), name
        np.testing.assert_allclose(codes * scale, expected_weight, rtol=TWO_UNITS_IN_THE_LAST_PLACE)


@pytest.mark.parametrize("mean", [41.0, 47.0, 55.0, 61.0, 0.7509765625])
def test_codes_next_to_half_the_mean_follow_upstreams_reciprocal(mean):
    """There w * (1 / mean) and w / mean round to different sides."""
    half = np.float32(mean / 2)
    edges = [np.nextafter(half, np.float32(0)), half, np.nextafter(half, np.float32(np.inf))]
    balance = [np.float32(1.5 * mean)] * 3
    weight = torch.tensor(np.array(edges + balance + [mean] * 26, dtype=np.float32)).repeat(2, 1)
    weight[1] *= -1
    assert weight.abs().mean().item() == mean
    codes, _ = quantized(weight)
    assert np.array_equal(codes, upstream(weight)[0])


def test_the_reciprocal_matters_next_to_half_the_mean():
    weight = torch.full((1, 64), 41.0)
    weight[0, 0], weight[0, 1] = np.nextafter(np.float32(20.5), np.float32(30)).item(), 61.5
    codes, _ = quantized(weight)
    assert codes[0, 0] == 0
    assert (weight / weight.abs().mean()).round()[0, 0] == 1


def test_a_tiny_weight_is_not_scaled_beyond_upstreams_limit():
    codes, scale = quantized(torch.tensor([[6e-6, -4e-6, -2e-5]]))
    assert codes.tolist() == [[1, 0, -1]]
    assert scale == pytest.approx(1e-5)


def test_the_gradient_passes_straight_through_rounding_and_clamping():
    """Upstream's estimator gives every weight the gradient of its quantized value, large ones too."""
    layer = ternary_linear(random_weight())
    inputs = torch.randn(7, 80, generator=torch.Generator().manual_seed(4))
    upward = torch.randn(7, 48, generator=torch.Generator().manual_seed(5))
    layer(inputs).backward(upward)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, upward.T @ inputs, rtol=1e-5, atol=1e-5)


def test_the_layer_multiplies_by_the_quantized_weight():
    weight = random_weight()
    inputs = torch.randn(7, 80, generator=torch.Generator().manual_seed(4))
    expected = inputs @ torch.from_numpy(upstream(weight)[1]).T
    torch.testing.assert_close(ternary_linear(weight)(inputs).detach(), expected)

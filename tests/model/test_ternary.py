from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from loihi_mmfree.model.ternary import BitLinear, RMSNorm, quantize_activations, quantize_weight


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(24, 40, generator=torch.Generator().manual_seed(1)) * 0.05


def test_codes_are_the_weights_rounded_in_units_of_their_mean_magnitude():
    codes, scale = quantize_weight(torch.tensor([[4.0, -1.0, 0.9], [-8.0, 1.1, 3.0]]))
    assert scale == 3.0
    assert codes.tolist() == [[1, 0, 0], [-1, 0, 1]]


def test_codes_agree_with_exact_arithmetic(weight):
    exact = [[Fraction(value) for value in row] for row in weight.tolist()]
    mean = sum(abs(value) for row in exact for value in row) / weight.numel()
    expected = [[max(-1, min(1, round(value / mean))) for value in row] for row in exact]
    codes, scale = quantize_weight(weight)
    assert codes.tolist() == expected
    assert scale.item() == pytest.approx(float(mean), rel=1e-6)


def test_codes_of_trained_weights_equal_those_of_upstreams_float32_formula(reference):
    for module in reference.model.modules():
        if isinstance(module, BitLinear):
            weight = module.weight.detach()
            expected = (weight * (1.0 / weight.abs().mean())).round().clamp(-1, 1)
            assert torch.equal(quantize_weight(weight)[0], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_codes_times_scale_are_upstreams_quantized_weight_bit_for_bit(weight, dtype):
    """Upstream multiplies by the float32 reciprocal of the mean and divides by it again."""
    stored = weight.to(dtype)
    values = stored.float().numpy()
    reciprocal = np.float32(1) / np.float32(np.abs(values).mean(dtype=np.float64))
    expected = np.clip(np.rint(values * reciprocal), -1, 1) / reciprocal
    codes, scale = quantize_weight(stored.float())
    assert np.array_equal((codes * scale).numpy(), expected)


def test_a_weight_stored_as_ternary_times_scale_keeps_its_codes(weight):
    codes, scale = quantize_weight(weight)
    again, smaller = quantize_weight(codes * scale)
    assert torch.equal(again, codes)
    torch.testing.assert_close(smaller, scale * codes.abs().mean(), rtol=1e-6, atol=0)


def test_a_tiny_weight_is_not_scaled_beyond_upstreams_limit():
    codes, scale = quantize_weight(torch.tensor([[6e-6, -4e-6]]))
    assert codes.tolist() == [[1, 0]]
    assert scale.item() == pytest.approx(1e-5)


def test_activations_are_rounded_half_to_even_by_the_largest_of_their_token():
    codes, scale = quantize_activations(torch.tensor([[127.0, 0.5, 1.5, -2.5], [0.0, 0.0, 0.0, -1.0]]))
    assert codes.tolist() == [[127, 0, 2, -2], [0, 0, 0, -127]]
    assert scale.flatten().tolist() == pytest.approx([1, 1 / 127])


def test_a_token_of_zeros_stays_zero():
    codes, scale = quantize_activations(torch.zeros(1, 4))
    assert codes.tolist() == [[0, 0, 0, 0]]
    assert scale.isfinite().all()


def test_the_norm_divides_by_the_root_mean_square_and_applies_its_gain():
    norm = RMSNorm(2, eps=1.0)
    norm.weight.data = torch.tensor([1.0, 10.0])
    assert norm(torch.tensor([1.0, 7.0])).tolist() == pytest.approx([1 / 26**0.5, 70 / 26**0.5])


def test_a_projection_computes_with_codes_only():
    """By hand: RMS is 5 (to 1e-6), the largest is 1.4, the weight's mean magnitude is 1.5."""
    projection = BitLinear(2, 2)
    projection.weight.data = torch.tensor([[1.0, -2.0], [0.5, 2.5]])
    output = projection(torch.tensor([[1.0, 7.0]]))
    code = round(1 / 7 * 127)
    expected = [1.5 * 1.4 / 127 * value for value in (code - 127, 127)]
    assert output[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_gradients_pass_both_roundings_unchanged(weight):
    """As if the rounded values were constants added to the continuous ones."""
    projection = BitLinear(40, 24)
    projection.weight = torch.nn.Parameter(weight)
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(2), requires_grad=True)
    upstream = torch.randn(5, 24, generator=torch.Generator().manual_seed(3))
    projection(x).backward(upstream)
    with torch.no_grad():
        normed = projection.norm(x)
        steps = 127 / normed.abs().amax(-1, keepdim=True)
        rounded = (normed * steps).round() / steps
        codes, scale = quantize_weight(weight)
    torch.testing.assert_close(projection.weight.grad, upstream.T @ rounded, rtol=1e-4, atol=1e-5)
    expected_x = torch.autograd.grad(projection.norm(x), x, upstream @ (codes * scale))[0]
    torch.testing.assert_close(x.grad, expected_x, rtol=1e-4, atol=1e-5)


def test_freezing_changes_no_output(weight):
    projection = BitLinear(40, 24)
    projection.weight.data = weight
    x = torch.randn(3, 40)
    before = projection(x)
    projection.eval().freeze()
    assert torch.equal(projection(x), before)


def test_a_frozen_projection_does_not_compute_its_codes_again(weight):
    projection = BitLinear(40, 24).eval()
    projection.weight.data = weight
    projection.freeze()
    codes, _ = projection.ternary_weight()
    assert projection.ternary_weight()[0] is codes


@pytest.mark.parametrize("thaw", ["train", "load", "freeze"])
def test_frozen_codes_are_dropped_when_the_weight_may_change(weight, thaw):
    projection = BitLinear(40, 24).eval()
    projection.weight.data = weight.clone()
    projection.freeze()
    state = projection.state_dict() | {"weight": -weight}
    if thaw == "load":
        projection.load_state_dict(state)
    else:
        projection.weight.data.neg_()
        getattr(projection, thaw)()
    assert torch.equal(projection.ternary_weight()[0], -quantize_weight(weight)[0])


def test_frozen_codes_are_no_part_of_the_state_dict():
    projection = BitLinear(4, 2)
    torch.nn.init.normal_(projection.weight)
    projection.freeze()
    assert sorted(projection.state_dict()) == ["norm.weight", "weight"]

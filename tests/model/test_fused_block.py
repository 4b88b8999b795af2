"""The kernels of a block and of a BitLinear against plain PyTorch: on a GPU, or in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("triton")

from loihi_mmfree.checkpoint import ModelConfig
from loihi_mmfree.model import layers, ternary
from loihi_mmfree.model.fused import mlgru
from loihi_mmfree.model.fused.inputs import quantize
from loihi_mmfree.model.fused.linear import bit_linear
from loihi_mmfree.model.fused.loss import cross_entropy
from loihi_mmfree.model.fused.norm import rms_norm
from loihi_mmfree.model.fused.weights import ternarise
from loihi_mmfree.model.layers import Block
from loihi_mmfree.model.ternary import BitLinear, RMSNorm, quantize_activations, quantize_weight

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WIDTH, INNER, TEXTS, TOKENS = 19, 21, 1, 3


@pytest.fixture(autouse=True)
def seeded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Drawn the same for every test, and so few tokens are more than a chunk."""
    monkeypatch.setattr(mlgru, "SHORTEST_CHUNK", 2)
    torch.manual_seed(0)
    with DEVICE:
        yield


@pytest.fixture
def kernels(monkeypatch):
    """A function that says whether the modules use kernels, wherever they are."""

    def use(yes: bool) -> None:
        for module in (layers, ternary):
            monkeypatch.setattr(module, "fused_for", lambda x: yes)

    return use


def drawn(module):
    """A module whose parameters are as scattered as trained ones."""
    for name, parameter in module.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.2)
    return module


def test_codes_and_scales_are_those_of_plain_pytorch_bit_for_bit(kernels):
    kernels(False)
    module, x = drawn(BitLinear(WIDTH, INNER)), 3 * torch.randn(20, WIDTH)
    found, weight = quantize(x, module.norm.weight.detach()[None]), ternarise(module.weight.detach())
    expected, scales = quantize_activations(module.norm(x))
    expected_weight, scale = quantize_weight(module.weight)
    assert torch.equal(found.codes[0].float(), expected)
    assert torch.equal(found.scales[0], scales[:, 0])
    assert torch.equal(weight.codes.float(), expected_weight)
    assert torch.equal(weight.scale, scale)


def test_a_row_of_zeros_gives_codes_of_zero():
    found = quantize(torch.zeros(1, WIDTH), torch.ones(1, WIDTH))
    assert found.codes.float().abs().max() == 0
    assert found.scales.isfinite().all()


@pytest.mark.filterwarnings("ignore:All-NaN slice")
@pytest.mark.parametrize("place", ["input", "weight"])
def test_what_is_not_a_number_is_not_hidden_by_a_rounding(place):
    module, x = drawn(BitLinear(WIDTH, INNER)), torch.randn(1, WIDTH)
    (x if place == "input" else module.weight.data)[0, 3] = float("nan")
    assert bit_linear(x, module.norm.weight, module.weight, None).isnan().all()


def test_a_norm_is_that_of_plain_pytorch_bit_for_bit_and_its_gradients_those_of_float64(kernels):
    kernels(False)
    module = drawn(RMSNorm(WIDTH, 1e-6))
    x, outer = torch.randn(5, WIDTH, requires_grad=True), torch.randn(5, WIDTH)
    output = rms_norm(x, module.weight, module.eps)
    assert torch.equal(output, module(x))
    found = torch.autograd.grad(output, [x, module.weight], outer)
    exact = x.double() * (x.double().square().mean(-1, keepdim=True) + module.eps).rsqrt() * module.weight
    expected = torch.autograd.grad(exact, [x, module.weight], outer.double())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def in_float64(module, x):
    """A BitLinear whose rounded numbers are constants added to the continuous ones, in float64."""
    with torch.no_grad():
        codes, scales = quantize_activations(module.norm(x.detach().float()))
        ternary_codes, scale = (each.double() for each in quantize_weight(module.weight))
    gain, weight = module.norm.weight.double(), module.weight.double()
    normed = x * (x.square().mean(-1, keepdim=True) + module.norm.eps).rsqrt() * gain
    rounded = normed + (codes * scales - normed).detach()
    rounded_weight = weight + (ternary_codes * scale - weight).detach()
    return rounded @ rounded_weight.T


def test_the_gradients_of_a_projection_are_those_of_float64(kernels):
    kernels(False)
    module, outer = drawn(BitLinear(WIDTH, INNER)), torch.randn(TOKENS, INNER)
    parameters = [module.norm.weight, module.weight]
    x = torch.randn(TOKENS, WIDTH, requires_grad=True)
    output = bit_linear(x, *parameters, None)
    exact = in_float64(module, x.double())
    torch.testing.assert_close(output.double(), exact, rtol=1e-5, atol=1e-5)
    found = torch.autograd.grad(output, [x, *parameters], outer)
    expected = torch.autograd.grad(exact, [x, *parameters], outer.double())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_a_block_gives_what_its_modules_give_and_their_gradients(kernels, autocast):
    config = {"model_type": "hgrn_bit", "vocab_size": 8, "hidden_size": WIDTH, "intermediate_size": INNER}
    block = drawn(Block(ModelConfig.from_dict(config | {"num_hidden_layers": 1})))
    shape = (TEXTS, TOKENS, WIDTH)
    inputs = [torch.randn(shape), torch.rand(WIDTH) / 2, torch.randn(TEXTS, WIDTH, dtype=torch.float64)]
    mask = torch.ones(TEXTS, TOKENS, dtype=torch.bool)
    mask[0, 0] = False
    outer = [torch.randn(shape), torch.randn(TEXTS, WIDTH, dtype=torch.float64)]
    results = []
    for yes in (True, False):
        kernels(yes)
        given = [each.clone().requires_grad_() for each in inputs]
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=autocast):
            outputs = block(*given, mask)
        results.append([outputs, torch.autograd.grad(outputs, [*given, *block.parameters()], outer)])
    for found, expected in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for found, expected in zip(results[0][1], results[1][1], strict=True):
        assert found.dtype == expected.dtype
        assert (found - expected).norm() <= (3e-2 if autocast else 1e-5) * expected.norm()


def test_a_block_that_is_watched_calls_its_modules(kernels):
    kernels(True)
    config = {"model_type": "hgrn_bit", "vocab_size": 8, "hidden_size": WIDTH, "intermediate_size": INNER}
    block = drawn(Block(ModelConfig.from_dict(config | {"num_hidden_layers": 1}))).requires_grad_(False)
    x, seen = torch.randn(1, 1, WIDTH), []
    expected, _ = block(x, None, None)
    block.mlp.glu.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    found, _ = block(x, None, None)
    assert seen == [(1, 1, INNER)]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_cross_entropy_and_its_gradient_are_those_of_pytorch():
    sums, scales, scale = 9 * torch.randn(3, 37), torch.rand(3), torch.rand(())
    targets = torch.tensor([4, -100, 36])
    logits = (sums * scales[:, None] * scale).requires_grad_()
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    (of_logits,) = torch.autograd.grad(expected.sum(), logits)
    found = cross_entropy(sums, scales, scale, targets, -100, True)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sums, of_logits * scales[:, None], rtol=1e-5, atol=1e-6)

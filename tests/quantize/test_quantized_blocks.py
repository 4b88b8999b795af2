"""The model after the norm algebra, against the model as upstream writes it, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.quantize.blocks import load_model, quantizers, set_formats
from loihi_mmfree.quantize.calibration import calibrate, observing
from loihi_mmfree.quantize.calibration_ids import calibration_ids
from loihi_mmfree.quantize.config import QuantizationConfig

FINEST = QuantizationConfig(
    activation_bits=16, residual_bits=24, preactivation_bits=24, state_bits=24, product_bits=24
)


def upstream_logits(checkpoint: Checkpoint, ids: torch.Tensor) -> torch.Tensor:
    """Every norm where upstream has it, ternary weights, activations not quantized; float64."""
    config = checkpoint.config

    def get(name: str) -> torch.Tensor:
        return checkpoint.tensor(name).double()

    def norm(x: torch.Tensor, name: str, eps: float = config.rms_norm_eps) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * get(f"{name}.weight")

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        weight = checkpoint.tensor(f"{name}.weight")
        mean = weight.abs().mean().double()
        return norm(x, f"{name}.norm", 1e-6) @ ((weight.double() / mean).round().clamp(-1, 1) * mean).T

    x = get("model.embeddings.weight")[ids]
    bounds = torch.zeros(config.num_hidden_layers, config.input_dim, dtype=torch.float64)
    if config.use_lower_bound:
        shares = get("model.lower_bounds").softmax(0)
        bounds = shares.cumsum(0) - shares[0]
    for layer, bound in enumerate(bounds):
        block = f"model.layers.{layer}"
        a = norm(x, f"{block}.attn_norm")
        i, f, g = (linear(a, f"{block}.attn.{gate}_proj") for gate in "ifg")
        f = bound + (1 - bound) * f.sigmoid()
        c = F.silu(i) * (1 - f)
        h, states = torch.zeros_like(c[:, 0]), []
        for t in range(ids.shape[1]):
            h = f[:, t] * h + c[:, t]
            states.append(h)
        y = norm(g, f"{block}.attn.g_norm") * F.silu(torch.stack(states, 1))
        x = x + linear(y, f"{block}.attn.o_proj")
        gate, up = linear(norm(x, f"{block}.mlp_norm"), f"{block}.mlp.gate_proj").chunk(2, -1)
        x = x + linear(F.silu(gate) * up, f"{block}.mlp.down_proj")
    return linear(norm(x, "model.norm"), "lm_head")


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def text_windows(checkpoint: Checkpoint, tokens: int = 256) -> torch.Tensor:
    found = calibration_ids(checkpoint.tokenizer_path, checkpoint.config.vocab_size, tokens).ids
    return torch.from_numpy(found).reshape(-1, 64)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"expand_ratio": 2, "num_heads": 4},
        {"use_lower_bound": False},
        {"tie_word_embeddings": True},
    ],
    ids=str,
)
def test_the_norm_algebra_changes_nothing_for_a_model_of_any_shape(make_checkpoint, changes):
    checkpoint = make_checkpoint(**changes)
    ids = torch.randint(23, (2, 12), generator=torch.Generator().manual_seed(1))
    model = load_model(checkpoint, QuantizationConfig())
    with torch.no_grad(), observing(model):
        logits = model(ids)
    assert relative_error(logits, upstream_logits(checkpoint, ids)) < 1e-4


def test_the_norm_algebra_changes_nothing_for_a_trained_model(tiny):
    ids = text_windows(tiny)
    model = load_model(tiny, QuantizationConfig())
    with torch.no_grad(), observing(model):
        logits = model(ids)
    assert relative_error(logits, upstream_logits(tiny, ids)) < 1e-3


@pytest.mark.parametrize(("config", "bound"), [(FINEST, 2e-3), (QuantizationConfig(), 2e-2)])
def test_the_quantized_model_comes_as_close_as_its_widths_allow(tiny, config, bound):
    ids = text_windows(tiny)
    model = load_model(tiny, config)
    set_formats(model, calibrate(tiny, ids.numpy(), config).formats)
    with torch.no_grad():
        logits = model(ids)
    assert relative_error(logits, upstream_logits(tiny, ids)) < bound


def test_the_default_widths_keep_the_perplexity_on_text_not_calibrated_with(tiny):
    windows = text_windows(tiny, 2048)
    model = load_model(tiny, QuantizationConfig())
    held_out = windows[1::4]

    def loss() -> float:
        with torch.no_grad():
            logits = model(held_out)[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), held_out[:, 1:].flatten()).item()

    with observing(model):
        unquantized = loss()
    # The formats of another text replace what was observed.
    set_formats(model, calibrate(tiny, windows[::4].numpy(), QuantizationConfig()).formats)
    assert abs(loss() - unquantized) < 0.003


def test_every_parameter_learns(tiny):
    ids = text_windows(tiny)[:, :16]
    config = QuantizationConfig(activation_bits=8)
    model = load_model(tiny, config).train()
    set_formats(model, calibrate(tiny, ids.numpy(), config).formats)
    logits = model(ids)
    F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    still = [name for name, p in model.named_parameters() if "_quant." not in name and not p.grad.any()]
    assert without == []
    assert still == []


def test_a_tied_head_shares_the_embedding(make_checkpoint):
    model = load_model(make_checkpoint(tie_word_embeddings=True), QuantizationConfig())
    assert model.head.lm_head.weight is model.embeddings.weight


def test_loading_draws_no_random_numbers(tiny):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    load_model(tiny, QuantizationConfig())
    assert torch.equal(torch.get_rng_state(), before)


def test_each_quantizer_has_a_site_of_its_own(tiny):
    sites = [quantizer.site for quantizer in quantizers(load_model(tiny, QuantizationConfig()))]
    assert len(sites) == len(set(sites)) == 3 + 18 * 4

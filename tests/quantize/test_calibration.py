from __future__ import annotations

import numpy as np
import pytest
import torch

from loihi_mmfree.checkpoint.tensors import is_projection
from loihi_mmfree.errors import CheckpointError, UsageError
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.fixedpoint.ternary import unpack_ternary
from loihi_mmfree.quantize import calibration
from loihi_mmfree.quantize.blocks import load_model, quantizers
from loihi_mmfree.quantize.calibration import calibrate, observing
from loihi_mmfree.quantize.calibration_ids import calibration_ids
from loihi_mmfree.quantize.config import QuantizationConfig

SATURATING_BLOCK_SITES = {
    "attn.statistic",
    "attn.i_proj.output",
    "attn.f_proj.output",
    "attn.g_proj.output",
    "attn.state",
    "attn.output",
    "attn.residual",
    "mlp.statistic",
    "mlp.gate_proj.gate",
    "mlp.gate_proj.up",
    "mlp.output",
    "mlp.residual",
}
INPUT_BLOCK_SITES = {
    "attn.i_proj.input",
    "attn.f_proj.input",
    "attn.g_proj.input",
    "attn.o_proj.input",
    "mlp.gate_proj.input",
    "mlp.down_proj.input",
}


@pytest.fixture(scope="module")
def windows(tiny) -> np.ndarray:
    return calibration_ids(tiny.tokenizer_path, tiny.config.vocab_size, 512).ids


@pytest.fixture(scope="module")
def default(tiny, windows):
    return calibrate(tiny, windows, QuantizationConfig())


def test_every_site_has_a_format(default):
    blocks = {
        f"layers.{layer}.{site}" for layer in range(4) for site in SATURATING_BLOCK_SITES | INPUT_BLOCK_SITES
    }
    assert default.formats.keys() == blocks | {"embeddings", "norm.statistic", "lm_head.input"}
    assert default.maxima.keys() == default.formats.keys()
    assert default.tokens == 512


def test_each_kind_of_site_has_the_width_that_was_asked_for(tiny, windows):
    config = QuantizationConfig(
        activation_bits=9, residual_bits=20, preactivation_bits=17, state_bits=18, product_bits=19
    )
    formats = calibrate(tiny, windows[:1, :16], config).formats
    kinds = {
        "input": 9,
        "residual": 20,
        "embeddings": 20,
        "i_proj.output": 17,
        "f_proj.output": 17,
        "g_proj.output": 17,
        "gate": 17,
        "up": 17,
        "state": 18,
        "attn.output": 19,
        "mlp.output": 19,
        "statistic": 19,
    }
    for site, qformat in formats.items():
        (kind,) = [kind for kind in kinds if site.endswith(kind)]
        assert qformat.bits == kinds[kind], site


def test_saturating_sites_keep_half_of_their_range_free(default):
    for layer in range(4):
        for name in SATURATING_BLOCK_SITES:
            site = f"layers.{layer}.{name}"
            assert 2 * default.maxima[site] <= default.formats[site].max_value, site


def test_only_inputs_of_projections_may_clip_what_calibration_saw(tiny, windows):
    found = calibrate(tiny, windows, QuantizationConfig(activation_bits=6))
    clipped = {site for site, qformat in found.formats.items() if qformat.max_value < found.maxima[site]}
    assert clipped
    assert all(site.endswith(".input") for site in clipped)


def test_the_embedding_format_holds_the_whole_table_not_just_the_tokens_seen(tiny, default):
    largest = tiny.tensor("model.embeddings.weight").abs().max().item()
    assert default.maxima["embeddings"] == largest
    assert default.formats["embeddings"] == QFormat.covering(16, largest)


def test_block_by_block_equals_the_whole_model_at_once(tiny, windows, default):
    model = load_model(tiny, QuantizationConfig())
    with torch.no_grad(), observing(model):
        model.embeddings.output(model.embeddings.weight)
        model(torch.from_numpy(windows))
    assert {q.site: q.scaling.qformat() for q in quantizers(model)} == default.formats
    maxima = {q.site: q.scaling.maximum.item() for q in quantizers(model)}
    assert maxima == pytest.approx(dict(default.maxima), rel=1e-5)


def test_the_size_of_the_batches_does_not_matter(tiny, windows, default, monkeypatch):
    monkeypatch.setattr(calibration, "BATCH_TOKENS", 256)
    again = calibrate(tiny, windows, QuantizationConfig())
    assert again.formats == default.formats
    assert again.maxima == pytest.approx(dict(default.maxima), rel=1e-5)


def test_weights_are_quantized_on_the_way_as_upstream_does(tiny, default):
    assert set(default.projections) == {name for name in tiny.names() if is_projection(name)}
    for name, found in default.projections.items():
        weight = tiny.tensor(name)
        steps = 1.0 / weight.double().abs().mean().float()
        codes = (weight * steps).round().clamp(-1, 1)
        assert np.array_equal(unpack_ternary(found.packed, weight.shape[1]), codes.numpy()), name
        assert np.float32(found.scale) == (1.0 / steps).numpy(), name


def test_the_number_of_threads_is_left_as_it_was(tiny, windows):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        calibrate(tiny, windows[:1, :4], QuantizationConfig())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_single_window_may_have_one_axis(tiny, windows):
    one = calibrate(tiny, windows[0], QuantizationConfig())
    assert one.formats == calibrate(tiny, windows[:1], QuantizationConfig()).formats


def test_progress_counts_embedding_blocks_and_head(tiny, windows):
    seen = []
    calibrate(tiny, windows[:1, :4], QuantizationConfig(), lambda done, total: seen.append((done, total)))
    assert seen == [(step, 6) for step in range(1, 7)]


def test_a_site_that_is_zero_throughout_gets_the_format_that_holds_one(make_checkpoint):
    checkpoint = make_checkpoint({"model.layers.1.attn.g_norm.weight": torch.zeros(16)})
    found = calibrate(checkpoint, np.arange(20), QuantizationConfig())
    assert found.maxima["layers.1.attn.output"] == 0
    assert found.formats["layers.1.attn.output"] == QFormat.covering(16, 2.0)


def test_values_that_overflow_are_refused_by_the_name_of_the_site(make_checkpoint):
    checkpoint = make_checkpoint({"model.layers.1.mlp.down_proj.norm.weight": torch.full((24,), 3e38)})
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.down_proj\.input: .* only finite values"):
        calibrate(checkpoint, np.arange(20), QuantizationConfig())


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([], dtype=np.int64), r"at least one; found int64 of shape \[0\]"),
        (np.array([1.0, 2.0]), r"whole numbers .* found float64 of shape \[2\]"),
        (np.zeros((1, 2, 3), dtype=np.int64), r"found int64 of shape \[1, 2, 3\]"),
        (np.array([3, 512]), r"range from 3 to 512, the vocabulary from 0 to 511"),
        (np.array([-1, 5]), r"range from -1 to 5"),
    ],
)
def test_unusable_ids_are_refused(tiny, ids, message):
    with pytest.raises(UsageError, match=message):
        calibrate(tiny, ids, QuantizationConfig())

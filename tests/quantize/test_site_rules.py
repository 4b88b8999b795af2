"""Single sites can have widths, methods and thresholds of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.errors import UsageError
from loihi_mmfree.quantize.calibration import Calibration, calibrate, observing
from loihi_mmfree.quantize.clipping import covered_magnitude, magnitude_histogram
from loihi_mmfree.quantize.config import QuantizationConfig, SiteRule, SiteSetting
from loihi_mmfree.quantize.quantizers import ActivationQuantizer

IDS = np.arange(96) % 32


def calibrated(checkpoint: Checkpoint, *rules: SiteRule) -> Calibration:
    return calibrate(checkpoint, IDS, QuantizationConfig(sites=rules))


def test_later_rules_go_over_earlier_ones_and_leave_what_they_do_not_name() -> None:
    config = QuantizationConfig(
        sites=(SiteRule("*.input", bits=8, zeros=0.2), SiteRule("layers.1.*", bits=10), SiteRule("norm*", bits=9))
    )
    found = config.setting("layers.1.attn.i_proj.input", SiteSetting(12, method="least_squares"))
    assert found == SiteSetting(10, method="least_squares", zeros=0.2)
    assert config.setting("layers.0.mlp.output", SiteSetting(16, 1)) == SiteSetting(16, 1)


def test_a_layer_and_a_kind_have_widths_of_their_own(make_checkpoint: Callable[..., Checkpoint]) -> None:
    rules = SiteRule("*.input", bits=8), SiteRule("layers.1.mlp.*.input", bits=6), SiteRule("*.state", bits=18)
    formats = calibrated(make_checkpoint(), *rules).formats
    assert {formats[f"layers.0.attn.{each}_proj.input"].bits for each in "ifgo"} == {8}
    assert formats["layers.1.mlp.gate_proj.input"].bits == formats["layers.1.mlp.down_proj.input"].bits == 6
    assert formats["lm_head.input"].bits == 8
    assert formats["layers.0.attn.state"].bits == 18
    assert formats["layers.0.attn.output"].bits == 16


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 1.0])
def test_a_share_of_values_is_covered_to_a_sixteenth_of_an_octave(share: float) -> None:
    values = torch.from_numpy(np.random.default_rng(0).standard_normal(20000).astype(np.float32))
    found = covered_magnitude(magnitude_histogram(values), share)
    exact = float(np.quantile(values.abs().numpy(), share, method="inverted_cdf"))
    assert exact <= found <= exact * (1 + 1 / 16)


def test_a_percentile_gives_a_finer_format_than_the_maximum_where_outliers_are_rare() -> None:
    values = torch.cat([torch.linspace(-1, 1, 10000), torch.tensor([100.0])])
    fracs = {}
    for method in ("max", "percentile"):
        quantizer = ActivationQuantizer("site", 12, method=method, percentile=99.9).eval()
        with observing(quantizer):
            quantizer(values)
        fracs[method] = quantizer.scaling.qformat().frac
    assert fracs == {"max": 4, "percentile": 10}


@pytest.mark.parametrize("zeros", [0.1, 0.5, 0.9])
def test_a_threshold_makes_zeros_of_that_share_of_what_calibration_saw(zeros: float) -> None:
    values = torch.from_numpy(np.random.default_rng(1).standard_normal(20000).astype(np.float32))
    quantizer = ActivationQuantizer("layers.0.attn.i_proj.input", 12, method="least_squares", zeros=zeros).eval()
    with observing(quantizer):
        quantizer(values)
    sent = quantizer(values)
    found = float((sent == 0).double().mean())
    assert zeros <= found <= zeros + 0.06
    kept = sent[sent != 0].abs() * 2.0 ** quantizer.scaling.qformat().frac
    assert kept.min() >= quantizer.scaling.threshold


def test_settings_survive_the_way_through_toml() -> None:
    rules = (
        SiteRule("*.input", bits=8, method="percentile", percentile=99.5),
        SiteRule("layers.3.*", headroom_bits=2),
        SiteRule("layers.0.attn.i_proj.input", zeros=0.25),
    )
    config = CompileConfig(quantization=QuantizationConfig(residual_bits=18, sites=rules))
    assert CompileConfig.from_toml(config.to_toml(), "here") == config
    assert "sites" not in CompileConfig().to_toml()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sites": 3}, "must be a list of tables"),
        ({"sites": [{"bits": 8}]}, "is no rule"),
        ({"sites": [{"match": "*.input", "colour": 1}]}, "is no rule"),
        ({"sites": [{"match": "*", "bits": 3}]}, "bits is 3; it must be a whole number from 4 to 24"),
        ({"sites": [{"match": "*", "bits": 8.5}]}, "bits is 8.5"),
        ({"sites": [{"match": "*", "bits": True}]}, "bits is True"),
        ({"sites": [{"match": "", "bits": 8}]}, "match is ''"),
        (
            {"sites": [{"match": "*", "method": "guess"}]},
            "method is 'guess'; it must be one of max, least_squares",
        ),
        ({"sites": [{"match": "*", "percentile": 101}]}, "percentile is 101"),
        ({"sites": [{"match": "*", "zeros": 1}]}, "zeros is 1; it must be a number from 0 to 0.95"),
    ],
)
def test_a_rule_that_is_none_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        QuantizationConfig.from_dict(values)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (SiteRule("layers.7.*", bits=8), r"'layers.7.\*' matches no site; there are embeddings"),
        (SiteRule("*.input", bits=20), "layers.0.attn.i_proj.input has 20 bits; allowed: 4 to 16"),
        (SiteRule("*.state", bits=4), "layers.0.attn.state has 4 bits; allowed: 8 to 24"),
        (SiteRule("*.state", zeros=0.3), "layers.0.attn.state is given a share of zeros"),
    ],
)
def test_a_rule_that_such_a_site_cannot_have_is_refused(
    make_checkpoint: Callable[..., Checkpoint], rule: SiteRule, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        calibrated(make_checkpoint(), rule)


def test_only_inputs_of_projections_have_units_between_powers_of_two(
    make_checkpoint: Callable[..., Checkpoint],
) -> None:
    fine = calibrated(make_checkpoint(), SiteRule("*.input", bits=6, method="fine_least_squares")).formats
    assert any(each.sixteenths != 16 for site, each in fine.items() if site.endswith(".input"))
    with pytest.raises(UsageError, match=r"layers\.0\.attn\.state is given the method fine_least_squares"):
        calibrated(make_checkpoint(), SiteRule("*.state", method="fine_least_squares"))

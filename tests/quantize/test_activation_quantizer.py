from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loihi_mmfree.errors import CheckpointError, UsageError
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.quantize.calibration import observing
from loihi_mmfree.quantize.quantizers import FINEST_FRACTION, ActivationQuantizer, covering_format


def calibrated(bits: int, *batches: list[float], headroom_bits: int = 0) -> ActivationQuantizer:
    """Return a quantizer that has seen some batches and answers with integers too."""
    quantizer = ActivationQuantizer("layers.0.somewhere", bits, headroom_bits).eval()
    with observing(quantizer):
        for batch in batches:
            quantizer(torch.tensor(batch))
    quantizer.return_quant_tensor = True
    return quantizer


def integers(quantizer: ActivationQuantizer, *values: float) -> list[int]:
    return quantizer(torch.tensor(values)).int().tolist()


@given(
    bits=st.integers(4, 24),
    values=st.lists(st.floats(-1e6, 1e6, width=32).filter(lambda x: abs(x) > 1e-6), min_size=1, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_calibration_data_never_clips_and_the_format_is_the_finest_that_does_not(bits, values):
    quantizer = calibrated(bits, values)
    qformat = quantizer.scaling.qformat()
    largest = max(map(abs, values))
    assert qformat.max_value >= largest
    assert qformat.frac == FINEST_FRACTION or QFormat(bits, qformat.frac + 1).max_value < largest
    result = quantizer(torch.tensor(values))
    errors = (result.value.double() - torch.tensor(values).double()).abs()
    assert errors.max().item() <= qformat.scale / 2


@given(bits=st.integers(4, 24), values=st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_the_fake_quantized_value_is_an_integer_of_the_format_exactly(bits, values):
    quantizer = calibrated(bits, [1.7])
    qformat = quantizer.scaling.qformat()
    result = quantizer(torch.tensor(values))
    numbers = result.int()
    assert numbers.abs().max().item() <= qformat.max_int
    assert torch.equal(result.value.double(), numbers.double() * qformat.scale)


@pytest.mark.parametrize("bits", [8, 12, 16, 24])
@pytest.mark.parametrize("maximum", [2.0**-9, 1.0, 64.0])
def test_a_maximum_at_a_power_of_two_does_not_clip(bits, maximum):
    quantizer = calibrated(bits, [maximum])
    assert quantizer(torch.tensor([maximum, -maximum])).value.tolist() == [maximum, -maximum]


def test_the_largest_of_all_batches_counts_not_their_mean():
    quantizer = calibrated(8, [0.1], [-3.0], [0.2])
    assert quantizer.scaling.maximum.item() == 3.0
    assert quantizer.scaling.qformat() == QFormat.covering(8, 3.0)


def test_rounding_is_half_up():
    quantizer = calibrated(8, [127.0])
    assert quantizer.scaling.qformat().frac == 0
    assert integers(quantizer, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5) == [1, 2, 3, 0, -1, -2]


def test_the_largest_number_below_one_half_rounds_down():
    quantizer = calibrated(8, [127.0])
    assert integers(quantizer, 0.49999997, -0.50000006) == [0, -1]


def test_saturation_is_symmetric():
    assert integers(calibrated(8, [1.0]), 1e9, -1e9) == [127, -127]


@pytest.mark.parametrize("headroom_bits", [1, 2])
def test_headroom_keeps_the_maximum_below_a_fraction_of_the_range(headroom_bits):
    qformat = calibrated(16, [1.0], headroom_bits=headroom_bits).scaling.qformat()
    assert qformat.max_value >= 2**headroom_bits
    assert qformat.max_value < 2 ** (headroom_bits + 2)


def test_a_site_of_zeros_gets_the_format_that_holds_one():
    qformat = calibrated(12, [0.0, 0.0]).scaling.qformat()
    assert qformat == QFormat.covering(12, 1.0)


def test_no_format_is_finer_than_what_means_something_beside_a_norms_epsilon():
    assert covering_format(16, 1e-9) == QFormat(16, 22)


@pytest.mark.parametrize("training", [True, False])
def test_an_uncalibrated_quantizer_is_refused_by_the_name_of_its_site(training):
    quantizer = ActivationQuantizer("layers.3.attn.state", 16, 1).train(training)
    with pytest.raises(UsageError, match=r"layers\.3\.attn\.state: the quantizer is not calibrated"):
        quantizer(torch.ones(2))
    with pytest.raises(UsageError, match=r"layers\.3\.attn\.state: the quantizer is not calibrated"):
        quantizer.scaling.qformat()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e12, -1e30])
def test_a_value_that_is_not_finite_or_absurdly_large_is_refused_by_the_name_of_its_site(value):
    quantizer = calibrated(16, [1.0], [value], [2.0])
    with pytest.raises(CheckpointError, match=r"layers\.0\.somewhere: .* only finite values"):
        quantizer.scaling.qformat()


def test_activations_pass_unchanged_while_observing():
    quantizer = ActivationQuantizer("site", 4).eval()
    values = torch.tensor([0.123, -4.567])
    with observing(quantizer):
        assert torch.equal(quantizer(values), values)


def test_a_format_can_be_set_instead_of_calibrated():
    quantizer = ActivationQuantizer("site", 12)
    quantizer.scaling.set_format(QFormat(12, 5))
    assert quantizer.scaling.qformat() == QFormat(12, 5)
    assert quantizer(torch.tensor([1.0 + 2**-5, 1.0 + 2**-7])).tolist() == [1.0 + 2**-5, 1.0]


def test_a_unit_may_be_any_sixteenth_of_a_power_of_two():
    quantizer = ActivationQuantizer("site", 6)
    quantizer.scaling.set_format(QFormat(6, 3, 20))
    unit = 20 / 16 / 8
    assert quantizer.scaling.qformat().scale == unit
    assert quantizer(torch.tensor([unit * 1.4, unit * -1.6, 100.0])).tolist() == [unit, -2 * unit, 31 * unit]


def test_a_state_dict_carries_the_calibration():
    source = calibrated(12, [5.0])
    source.scaling.set_format(QFormat(12, source.scaling.qformat().frac, 23))
    target = ActivationQuantizer("layers.0.somewhere", 12)
    target.load_state_dict(source.state_dict())
    assert target.scaling.qformat() == source.scaling.qformat()


def test_the_state_dict_of_an_uncalibrated_quantizer_stays_uncalibrated():
    target = ActivationQuantizer("site", 12)
    target.load_state_dict(ActivationQuantizer("site", 12).state_dict())
    with pytest.raises(UsageError, match="not calibrated"):
        target.scaling.qformat()


def test_gradients_pass_inside_the_range_and_stop_outside():
    quantizer = calibrated(8, [1.0])
    quantizer.return_quant_tensor = False
    values = torch.tensor([0.3, -0.7, 5.0, -5.0], requires_grad=True)
    quantizer(values).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1, 1, 0, 0]


def test_the_scale_learns_where_values_clip():
    quantizer = calibrated(8, [1.0])
    quantizer.return_quant_tensor = False
    quantizer(torch.tensor([5.0, 9.0])).sum().backward()
    gradient = quantizer.scaling.value.grad
    assert gradient is not None
    assert gradient.item() > 0


def test_brevitas_own_calibration_mode_finds_the_same_format():
    from brevitas.graph.calibrate import calibration_mode

    quantizer = ActivationQuantizer("site", 12, 1).eval()
    with calibration_mode(quantizer):
        quantizer(torch.tensor([0.25, -3.0]))
    assert quantizer.scaling.qformat() == calibrated(12, [0.25, -3.0], headroom_bits=1).scaling.qformat()

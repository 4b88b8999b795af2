from __future__ import annotations

import pytest

from loihi_mmfree.errors import UsageError
from loihi_mmfree.quantize.config import QuantizationConfig


def test_the_default_is_twelve_bit_activations_and_sixteen_for_the_rest():
    config = QuantizationConfig()
    assert config.activation_bits == 12
    assert {config.residual_bits, config.preactivation_bits, config.state_bits, config.product_bits} == {16}
    assert config.headroom_bits == 1


def test_a_dict_reads_back_as_the_same_configuration():
    config = QuantizationConfig(activation_bits=8, state_bits=24, headroom_bits=0)
    assert QuantizationConfig.from_dict(config.to_dict()) == config


def test_missing_keys_take_the_defaults():
    assert QuantizationConfig.from_dict({"activation_bits": 8}) == QuantizationConfig(activation_bits=8)


def test_an_unknown_key_is_refused_by_name():
    with pytest.raises(UsageError, match=r"unknown weight_bits; allowed: activation_bits"):
        QuantizationConfig.from_dict({"weight_bits": 2})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activation_bits", 3),
        ("activation_bits", 17),
        ("residual_bits", 25),
        ("preactivation_bits", 7),
        ("state_bits", 0),
        ("product_bits", -16),
        ("headroom_bits", -1),
        ("activation_bits", 8.0),
        ("activation_bits", "8"),
        ("headroom_bits", True),
    ],
)
def test_a_value_outside_its_limits_is_refused_with_the_limits(name, value):
    with pytest.raises(UsageError, match=rf"{name} is {value!r}; allowed: whole numbers from \d+ to \d+"):
        QuantizationConfig(**{name: value})

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch

from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.quantize.parameters import (
    embedding_table,
    lower_bounds,
    ternary_projection,
)


def half_up(value: float, frac: int) -> int:
    """Oracle: floor(value * 2**frac + 1/2) in rational arithmetic."""
    return math.floor(Fraction(value) * Fraction(2) ** frac + Fraction(1, 2))


def test_lower_bounds_are_upstreams_in_fixed_point(tiny):
    """Oracle: softmax over layers and its running sum, without the first layer, in plain Python."""
    parameter = tiny.tensor("model.lower_bounds").double().numpy()
    found = lower_bounds(tiny)
    assert found.shape == (4, 128)
    for channel in range(128):
        powers = [math.exp(value) for value in parameter[:, channel]]
        for layer in range(4):
            bound = sum(powers[1 : layer + 1]) / sum(powers)
            assert abs(found[layer, channel] - bound * 32768) <= 0.5 + 1e-6


def test_the_first_layer_has_no_lower_bound(tiny):
    assert not lower_bounds(tiny)[0].any()


def test_a_model_without_lower_bounds_has_zeros(make_checkpoint):
    found = lower_bounds(make_checkpoint(use_lower_bound=False, expand_ratio=2))
    assert found.shape == (2, 32)
    assert not found.any()


def test_lower_bounds_never_leave_zero_to_one(make_checkpoint):
    extreme = torch.tensor([[-90.0], [90.0]]).repeat(1, 16)
    found = lower_bounds(make_checkpoint({"model.lower_bounds": extreme}))
    assert found.min() == 0
    assert found.max() == 32768


def test_the_embedding_is_rounded_half_up(tiny):
    table = tiny.tensor("model.embeddings.weight")
    qformat = QFormat.covering(16, table.abs().max().item())
    found = embedding_table(tiny, qformat)
    expected = [[half_up(value, qformat.frac) for value in row] for row in table[::37].tolist()]
    assert found.values[::37].tolist() == expected
    assert found.saturated == 0


def test_entries_too_large_for_the_format_saturate_and_are_counted(make_checkpoint):
    table = torch.zeros(32, 16)
    table[1, 2], table[3, 4], table[5, 6] = 9.0, -9.0, 0.5
    found = embedding_table(make_checkpoint({"model.embeddings.weight": table}), QFormat(8, 6))
    assert (found.values[1, 2], found.values[3, 4], found.values[5, 6]) == (127, -127, 32)
    assert found.saturated == 2


def test_a_ternary_projection_is_upstreams_quantized_weight(tiny):
    name = "model.layers.2.mlp.gate_proj.weight"
    codes, scale = ternary_projection(tiny, name)
    weight = tiny.tensor(name)
    steps = 1.0 / weight.abs().mean()
    assert codes.dtype == np.int8
    assert np.array_equal(codes * np.float32(scale), ((weight * steps).round().clamp(-1, 1) / steps).numpy())

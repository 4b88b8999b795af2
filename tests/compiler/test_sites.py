"""Every quantizer has one name, which is a field of the layer it belongs to, and a format."""

from __future__ import annotations

from typing import Any

import pytest

from loihi_mmfree.compiler.layers import activation_sites, layer_graph, sites
from loihi_mmfree.compiler.pipeline import run_passes
from loihi_mmfree.errors import MismatchError
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.loihi2.hardware import LOIHI2


def test_the_layer_graph_has_the_sites_that_calibration_finds(lowered: Any) -> None:
    assert sites(layer_graph(lowered.checkpoint.config)) == lowered.formats.keys()


def test_no_pass_changes_them(lowered: Any) -> None:
    assert sites(lowered.layers) == lowered.formats.keys()


def test_the_width_of_activations_is_that_of_the_inputs_of_projections(lowered: Any) -> None:
    found = activation_sites(lowered.layers)
    assert found == {site for site, each in lowered.formats.items() if each.bits == 12}
    assert found == activation_sites(layer_graph(lowered.checkpoint.config))


def test_formats_of_another_network_are_refused_with_what_is_missing_and_what_is_too_much(lowered: Any) -> None:
    wrong = {**lowered.formats, "layers.9.attn.state": QFormat(16, 8)}
    del wrong["lm_head.input"]
    with pytest.raises(MismatchError, match=r"missing lm_head\.input; surplus layers\.9\.attn\.state"):
        run_passes(lowered.checkpoint, wrong, LOIHI2)

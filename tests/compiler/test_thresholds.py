"""A threshold is an exact part of the neuron programs: what is below it is not sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import loihi_mmfree
from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.golden import golden_messages
from loihi_mmfree.compiler.pipeline import Compiled, compile_graph
from loihi_mmfree.ir.nodes import NeuronGroup, Role
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.quantize.config import QuantizationConfig, SiteRule

IDS = np.arange(128) % 32


def compiled_with(checkpoint: Checkpoint, *rules: SiteRule) -> Compiled:
    return compile_graph(checkpoint, CompileConfig(quantization=QuantizationConfig(sites=rules)), IDS)


def test_messages_are_those_of_the_network_without_it_but_for_the_small_ones(
    make_checkpoint: Callable[..., Checkpoint],
) -> None:
    checkpoint = make_checkpoint(num_hidden_layers=1)
    plain, sparse = (
        compiled_with(checkpoint, *rules) for rules in ((), (SiteRule("layers.0.attn.i_proj.input", zeros=0.4),))
    )
    threshold = sparse.calibration.thresholds["layers.0.attn.i_proj.input"]
    before, after = (golden_messages(each.graph, IDS) for each in (plain, sparse))
    name = "layers.0.attn_norm.scale:i_proj"
    np.testing.assert_array_equal(after[name], np.where(np.abs(before[name]) >= threshold, before[name], 0))
    assert 0.4 <= (after[name] == 0).mean() < 0.5
    np.testing.assert_array_equal(
        after["layers.0.attn_norm.scale:f_proj"], before["layers.0.attn_norm.scale:f_proj"]
    )


@pytest.fixture(scope="module")
def sparse_net(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Net:
    """mmf-tiny with three tenths of what goes into projections not sent."""
    config = CompileConfig(quantization=QuantizationConfig(sites=(SiteRule("*.input", zeros=0.3),)))
    return loihi_mmfree.compile(tiny_checkpoint, tmp_path_factory.mktemp("sparse") / "net", config)


@pytest.mark.parametrize(
    "where", [{"backend": "engine", "kernels": "numpy"}, {"backend": "torch", "device": "cpu"}]
)
def test_every_path_computes_the_same(sparse_net: Net, where: dict[str, str]) -> None:
    ids = list(range(100, 140))
    found, engine = (loihi_mmfree.run(sparse_net, ids, 2, **each) for each in (where, {"backend": "engine"}))
    assert found.logits_sha256 == engine.logits_sha256


def test_that_share_of_what_is_sent_to_projections_is_zero_also_on_other_text(sparse_net: Net) -> None:
    result = loihi_mmfree.run(sparse_net, "The old man sat by the fire.", 40, backend="engine", activity=True)
    assert result.activity is not None
    shares = {
        str(node.out(port)): 1 - result.activity.per_token(node.out(port)) / size
        for node in sparse_net.graph
        if isinstance(node, NeuronGroup) and node.role is Role.SCALE
        for port, size in node.outputs.items()
    }
    assert len(shares) == 4 * 6 + 1
    assert all(0.15 < share < 0.5 for share in shares.values()), shares


def test_a_network_is_held_against_its_checkpoint_with_its_thresholds(
    sparse_net: Net, tiny_checkpoint: Path
) -> None:
    assert set(sparse_net.manifest["thresholds"]) == {
        site for site in sparse_net.manifest["formats"] if ".input" in site
    }
    comparison = loihi_mmfree.compare(sparse_net, tiny_checkpoint, lava=False)
    assert comparison.equal

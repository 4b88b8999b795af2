"""compile, from checkpoint to graph: options, debugging aids, refusals."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from loihi_mmfree.checkpoint import Checkpoint, open_checkpoint
from loihi_mmfree.checkpoint.tensors import is_projection
from loihi_mmfree.compiler import pipeline
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.debugging import Debugging
from loihi_mmfree.compiler.pipeline import compile_checkpoint, compile_graph
from loihi_mmfree.errors import DoesNotFitError, MismatchError, UsageError
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.sim.session.compare import compare_net


def test_settings_survive_as_toml() -> None:
    config = CompileConfig(QuantizationConfig(activation_bits=8), weight_bits=2, calibration_tokens=100)
    assert CompileConfig.from_toml(config.to_toml(), "config.toml") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weight_bits = 3", "weight_bits is 3"),
        ("chip = 9", "chip is 9"),
        ("head = 'cloud'", "head is 'cloud'"),
        ("objective = 'beauty'", "objective is 'beauty'"),
        ("chips = -1", "chips is -1"),
        ("straddle = 1", "straddle is 1"),
        ("colour = 1", "unknown colour"),
        ("[quantization]\nactivation_bits = 99", "activation_bits is 99"),
        ("calibration_tokens = 0", "calibration_tokens is 0"),
        ("= =", "not valid TOML"),
    ],
)
def test_wrong_settings_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CompileConfig.from_toml(text, "config.toml")


def test_dump_ir_writes_the_graph_after_every_pass_and_verify_accepts_them(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    debugging = Debugging(dump_ir=tmp_path / "ir", verify=True)
    compile_checkpoint(tiny_checkpoint, tmp_path / "net", debugging=debugging)
    names = [path.stem for path in sorted((tmp_path / "ir").iterdir())]
    layers = ["layers", "merge_norms", "drop_gate_norm", "share_statistics"]
    expected = [*layers, "lower", "narrow_registers", "balance_delays"]
    assert names == [f"{number:02d}_{name}" for number, name in enumerate(expected)]
    statistics = json.loads((tmp_path / "ir" / "03_share_statistics.json").read_text())
    assert sum(node["type"] == "Statistic" for node in statistics) == 4 * 4 + 1


def test_verify_stops_a_pass_that_changes_the_logits(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget_the_mlp(graph):  # type: ignore[no-untyped-def]
        mlp, attn = (graph.by_name[f"layers.0.{part}.residual"].out() for part in ("mlp", "attn"))
        return graph.with_nodes(
            replace(node, inputs=tuple(attn if source == mlp else source for source in node.inputs))
            for node in graph
        )

    monkeypatch.setattr(pipeline, "LAYER_PASSES", (forget_the_mlp, *pipeline.LAYER_PASSES))
    with pytest.raises(MismatchError, match="forget_the_mlp"):
        compile_graph(open_checkpoint(tiny_checkpoint), CompileConfig(), debugging=Debugging(verify=True))


def test_a_system_that_nobody_knows_is_refused_with_those_that_are(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"loihi9.*kapoho-point"):
        compile_checkpoint(tiny_checkpoint, tmp_path / "net", CompileConfig(chip="loihi9"))


def test_a_network_that_would_overflow_is_refused_with_every_layer_and_bound(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    narrow = tmp_path / "narrow.toml"
    narrow.write_text("accumulator_bits = 16\n")
    with pytest.raises(DoesNotFitError) as refused:
        compile_checkpoint(tiny_checkpoint, tmp_path / "net", CompileConfig(chip=str(narrow)))
    assert "lm_head: 16-bit accumulator (rule R2): found" in str(refused.value)
    assert "allowed 32767" in str(refused.value)
    # The longest row of the head has 117 weights: 117 * 255 fit, 117 * 511 do not.
    assert "With `activation_bits=9` they can" in str(refused.value)
    assert not (tmp_path / "net").exists()


def test_rows_longer_than_an_accumulator_are_split_and_compute_the_same(tiny_copy: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_copy / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    weights[name] = torch.full_like(weights[name], 0.02)
    save_file(weights, tiny_copy / "model.safetensors")
    # 512 weights of +1 and activations of up to 2**15 - 1 make 24 bits and a sign.
    config = CompileConfig(QuantizationConfig(activation_bits=16))
    net, _ = compile_checkpoint(tiny_copy, tmp_path / "net", config, debugging=Debugging(verify=True))
    parts = [node for node in net.graph if node.name.startswith("layers.1.mlp.down_proj.part_")]
    assert [type(node).__name__ for node in parts] == ["TernarySynapse", "NeuronGroup"] * 2
    assert compare_net(net, tiny_copy, lava=False).equal


def test_calibration_on_given_ids_replaces_the_text(tiny_checkpoint: Path, tiny_net: Net, tmp_path: Path) -> None:
    ids = np.arange(64, dtype=np.int64)
    net, notices = compile_checkpoint(tiny_checkpoint, tmp_path / "net", calibration=ids)
    np.testing.assert_array_equal(net.golden()["ids"], ids[:8])
    assert notices == ()
    assert net.manifest["formats"] != tiny_net.manifest["formats"]


def test_without_a_tokenizer_the_user_is_told_of_random_calibration(tiny_copy: Path, tmp_path: Path) -> None:
    (tiny_copy / "tokenizer.json").unlink()
    config = CompileConfig(calibration_tokens=64)
    net, notices = compile_checkpoint(tiny_copy, tmp_path / "net", config)
    assert len(notices) == 1
    assert "random" in notices[0]
    assert net.tokenizer_path is None


def test_every_weight_is_read_once(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()
    tensor = Checkpoint.tensor

    def counted(self: Checkpoint, name: str) -> torch.Tensor:
        read[name] += 1
        return tensor(self, name)

    monkeypatch.setattr(Checkpoint, "tensor", counted)
    checkpoint = open_checkpoint(tiny_checkpoint)
    compile_graph(checkpoint, CompileConfig(calibration_tokens=64))
    assert {name: read[name] for name in checkpoint.names() if is_projection(name)} == {
        name: 1 for name in checkpoint.names() if is_projection(name)
    }


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_activation_widths_shape_the_messages(tiny_checkpoint: Path, tmp_path: Path, bits: int) -> None:
    config = CompileConfig(QuantizationConfig(activation_bits=bits), calibration_tokens=256)
    net, _ = compile_checkpoint(tiny_checkpoint, tmp_path / "net", config)
    golden = net.golden()
    inputs = [values for name, values in golden.items() if ".scale:" in name]
    limit = 2 ** (bits - 1) - 1
    assert len(inputs) == 4 * 6 + 1
    assert max(np.abs(values).max() for values in inputs) <= limit
    assert max(np.abs(values).max() for values in inputs) > limit // 2

"""What `compile` makes of checkpoints as people save them, and what it tells about them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.pipeline import compile_checkpoint
from loihi_mmfree.errors import CheckpointError
from loihi_mmfree.quantize.parameters import ternary_projection
from loihi_mmfree.text import Tokenizer

QUICK = CompileConfig(calibration_tokens=64)
SENTENCEPIECE = Path(__file__).parent.parent / "data" / "sentencepiece" / "tokenizer.model"
PROJECTION = "model.layers.0.attn.i_proj.weight"


@pytest.fixture
def ternary_copy(tiny_copy: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """mmf-tiny with its projections stored as scale times code, and the codes."""
    weights = load_file(tiny_copy / "model.safetensors")
    codes = {}
    for name, value in weights.items():
        if name.endswith("proj.weight") or name == "lm_head.weight":
            scale = value.double().abs().mean()
            codes[name] = (value.double() / scale).round().clamp(-1, 1)
            weights[name] = (codes[name] * scale).float()
    save_file(weights, tiny_copy / "model.safetensors")
    return tiny_copy, codes


def test_weights_stored_ternary_are_noticed_with_the_density_that_shrinks_their_scale(ternary_copy, tmp_path):
    path, codes = ternary_copy
    net, notices = compile_checkpoint(path, tmp_path / "net", QUICK)
    shares = [code.count_nonzero().item() / code.numel() for code in codes.values()]
    (notice,) = notices
    assert f"{len(codes)} projections are stored ternary already" in notice
    assert f"(here {sum(shares) / len(shares):.2f})" in notice
    assert net.manifest["notices"] == [notice]


@pytest.mark.parametrize(("setting", "shrinks"), [("absmean", True), ("stored", False)])
def test_the_scale_of_weights_stored_ternary_is_the_mean_or_the_stored_one(ternary_copy, setting, shrinks):
    path, codes = ternary_copy
    for name in (PROJECTION, "lm_head.weight"):
        stored = open_checkpoint(path).tensor(name).abs().max().item()
        density = codes[name].count_nonzero().item() / codes[name].numel()
        found, scale = ternary_projection(open_checkpoint(path, setting), name)
        assert (torch.from_numpy(found) == codes[name]).all()
        assert scale == pytest.approx(stored * density if shrinks else stored, rel=1e-6)


def test_the_stored_scale_is_a_setting_that_is_kept_and_needs_no_notice(ternary_copy, tmp_path):
    config = CompileConfig(calibration_tokens=64, ternary_scale="stored")
    net, notices = compile_checkpoint(ternary_copy[0], tmp_path / "net", config)
    assert notices == ()
    assert CompileConfig.from_toml((net.path / "config.toml").read_text(), "").ternary_scale == "stored"


def test_a_sentencepiece_model_becomes_the_tokenizer_of_the_network(tiny_copy, tmp_path):
    (tiny_copy / "tokenizer.json").unlink()
    (tiny_copy / "tokenizer_config.json").unlink()
    shutil.copy(SENTENCEPIECE, tiny_copy)
    net, notices = compile_checkpoint(tiny_copy, tmp_path / "net", QUICK)
    assert notices == ("92 of the model's 512 tokens have no text in the tokenizer",)
    assert net.tokenizer_path is not None
    text = "It was a dark night"
    assert Tokenizer(net.tokenizer_path).encode(text) == Tokenizer(SENTENCEPIECE).encode(text)
    assert net.golden()["ids"].tolist() != list(range(8))


@pytest.mark.parametrize("stage", ["calibrate", "passes"])
def test_a_checkpoint_that_vanishes_meanwhile_is_named_and_nothing_is_left(tiny_copy, tmp_path, stage):
    def vanish(now: str, done: int, total: int) -> None:
        if now == stage:
            shutil.rmtree(tiny_copy, ignore_errors=True)

    output = tmp_path / "out" / "net"
    with pytest.raises(CheckpointError, match=rf"^{tiny_copy}/\S+: the checkpoint cannot be read any more"):
        compile_checkpoint(tiny_copy, output, QUICK, progress=vanish)
    assert not output.parent.exists()

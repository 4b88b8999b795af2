"""`loihi-mmfree train`: what cannot be trained is said before anything is done, and loses nothing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from .conftest import Call

pytestmark = pytest.mark.skipif(find_spec("accelerate") is None, reason="the extra `train` is optional")
USAGE, UNAVAILABLE = 2, 7
TEXT = "It was a dark and stormy night.\n" * 40


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "there is no text in it"),
        (b"\0 \n\0", "there is no text in it"),
        (b"caf\xe9", "not UTF-8: byte 3"),
        (b"Hello there.", "are 0 windows of 256, and a step reads 16; give more text, or a smaller batch"),
    ],
)
def test_text_that_cannot_be_trained_on_leaves_nothing(
    call: Call, tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    called = call("train", "--text", path, "-o", tmp_path / "checkpoint", "--shape", "tiny")
    assert called.code == USAGE
    assert "--text" in called.err
    assert said in called.err
    assert [each.name for each in tmp_path.iterdir()] == ["text.txt"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "nothing says what to train; give --shape tiny, or another one"),
        (["--shape", "huge"], "shape is 'huge'; known: tiny, demo, small, 370M, 1.3B, 2.7B"),
        (["--shape", "tiny", "--steps", "0"], "steps is 0"),
        (["--shape", "tiny", "--recipe", "recipe.toml"], "--recipe and --shape both name a recipe"),
        (["--resume"], "no training was begun there; leave --resume out to begin one"),
    ],
)
def test_what_is_not_asked_for_is_said(
    call: Call, text: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    called = call("train", "--text", text, "-o", tmp_path / "checkpoint", *options)
    assert called.code == USAGE
    assert said in called.err
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "tpu"])
def test_a_device_that_is_not_here_is_said_before_anything_is_begun(
    call: Call, text: Path, tmp_path: Path, device: str
) -> None:
    called = call("train", "--text", text, "-o", tmp_path / "out", "--shape", "tiny", "--device", device)
    assert called.code == UNAVAILABLE
    assert f"--device {device}: there is no such device here" in called.err
    assert not (tmp_path / "out").exists()


def test_unknown_keys_of_a_recipe_are_named(call: Call, text: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("shape = 'tiny'\nlearning_rate = 0.1\n")
    called = call("train", "--text", text, "-o", tmp_path / "out", "--recipe", tmp_path / "recipe.toml")
    assert called.code == USAGE
    assert "unknown learning_rate; known: model, steps" in called.err


def test_a_tokenizer_that_does_not_fit_is_refused(
    call: Call, text: Path, tmp_path: Path, demo_checkpoint: Path
) -> None:
    options = ["--shape", "tiny", "--tokenizer", demo_checkpoint / "tokenizer.json"]
    called = call("train", "--text", text, "-o", tmp_path / "out", *options)
    assert called.code == USAGE
    assert "2048 tokens, and the model's vocabulary has 512; say vocab_size = 2048" in called.err
    assert not (tmp_path / "out").exists()


def test_what_is_in_the_way_stays(call: Call, text: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    command = ["train", "--text", text, "-o", output, "--shape", "tiny"]
    called = call(*command)
    assert called.code == USAGE
    assert "exists; give --force to replace it, or another folder" in called.err
    called = call(*command, "--force")
    assert called.code == USAGE
    assert "is no training; --force replaces only those" in called.err
    (output / "recipe.toml").write_text("shape = 'tiny'")
    called = call(*command, "--force")
    assert called.code == USAGE
    assert "--force would remove notes.txt with it" in called.err
    assert (output / "notes.txt").read_text() == "mine"


def test_it_trains_and_says_what_it_did(call: Call, text: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(
        "batch = 2\nwindow = 16\n[model]\nvocab_size = 270\nhidden_size = 16\nnum_hidden_layers = 1\n"
        "intermediate_size = 16\n"
    )
    options = ["--recipe", tmp_path / "recipe.toml", "--steps", "2", "--device", "cpu", "--json"]
    called = call("train", "--text", text, "-o", tmp_path / "out", *options)
    assert called.code == 0, called.err
    assert "2 steps, loss 5." in called.out
    assert called.document["steps"] == 2
    assert called.document["recipe"]["model"]["vocab_size"] == 270
    called = call("train", "-o", tmp_path / "out", "--resume")
    assert called.code == 0
    assert "this training has ended; nothing is left to do" in called.err

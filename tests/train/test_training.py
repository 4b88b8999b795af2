"""Trainings from text to checkpoint: what they give, what they refuse, and how they end before their end."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import loihi_mmfree
from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.errors import TrainingError, UsageError
from loihi_mmfree.model.language_model import MatMulFreeLM, logits_function
from loihi_mmfree.model.perplexity import token_losses
from loihi_mmfree.train.log import read_log
from loihi_mmfree.train.loop import Learner, Loop, accelerating
from loihi_mmfree.train.recipe import Recipe
from loihi_mmfree.train.state import load_last
from loihi_mmfree.train.tokens import TokenWindows
from loihi_mmfree.train.training import Training


def begun(folder: Path, text: Path, recipe: Recipe, stop_at: int) -> Path:
    """A training that is interrupted in its n-th step."""

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "train" and done == stop_at:
            signal.raise_signal(signal.SIGINT)

    notices: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        loihi_mmfree.train(folder, recipe, text=text, device="cpu", progress=interrupt, on_notice=notices.append)
    assert notices == [
        f"stopped after step {stop_at} of {recipe.steps}, which is saved; `resume=True` goes on from there"
    ]
    return folder


def test_the_loss_falls_and_the_log_has_every_step(uninterrupted: Training, recipe: Recipe) -> None:
    records = uninterrupted.records
    assert [record.step for record in records] == list(range(1, recipe.steps + 1))
    assert abs(records[0].loss - np.log(300)) < 0.1
    assert records[-1].loss < records[0].loss - 0.5
    assert tuple(read_log(uninterrupted.path / "training_log.jsonl")) == records


def test_the_first_loss_is_that_of_the_float_model_on_the_first_windows(
    uninterrupted: Training, recipe: Recipe, text: Path
) -> None:
    torch.manual_seed(recipe.seed)
    logits = logits_function(MatMulFreeLM(recipe.model).freeze())
    tokenizer = loihi_mmfree.Tokenizer(uninterrupted.path / "tokenizer.json")
    tokens = np.array([*tokenizer.encode(text.read_text()), 2])
    every = tokens[: len(tokens) // recipe.window * recipe.window].reshape(-1, recipe.window)
    first = every[np.random.default_rng([recipe.seed, 0]).permutation(len(every))[: recipe.batch]]
    losses = [token_losses(logits(window)[:-1], window[1:]).mean() for window in first]
    assert uninterrupted.records[0].loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_it_ends_in_a_checkpoint_with_its_tokenizer_and_recipe(uninterrupted: Training, recipe: Recipe) -> None:
    checkpoint = open_checkpoint(uninterrupted.path)
    assert checkpoint.config == recipe.model
    assert checkpoint.notices == ()
    assert Recipe.from_toml((uninterrupted.path / "recipe.toml").read_text(), "its recipe") == recipe
    assert not (uninterrupted.path / "training").exists()
    from transformers import AutoTokenizer

    text = "It was a dark night"
    ours = loihi_mmfree.Tokenizer(uninterrupted.path / "tokenizer.json").encode(text)
    assert AutoTokenizer.from_pretrained(uninterrupted.path)(text)["input_ids"] == ours


def test_pieces_of_a_step_add_up_to_the_step(recipe: Recipe, text: Path, tmp_path: Path) -> None:
    whole = dataclasses.replace(recipe, micro_batch=0, steps=3)
    found = loihi_mmfree.train(tmp_path / "whole", whole, text=text, device="cpu")
    pieces = loihi_mmfree.train(
        tmp_path / "pieces", dataclasses.replace(whole, micro_batch=1), text=text, device="cpu"
    )
    assert found is not None
    assert pieces is not None
    for one, other in zip(found.records, pieces.records, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-2)


def test_bfloat16_computes_nearly_the_same(recipe: Recipe, text: Path, tmp_path: Path) -> None:
    half = dataclasses.replace(recipe, precision="bfloat16", steps=5)
    found = loihi_mmfree.train(tmp_path / "half", half, text=text, device="cpu")
    single = loihi_mmfree.train(
        tmp_path / "single", dataclasses.replace(half, precision="float32"), text=text, device="cpu"
    )
    assert found is not None
    assert single is not None
    assert found.records != single.records
    assert found.loss == pytest.approx(single.loss, rel=5e-3)
    assert {str(each.dtype) for each in open_state(found.path).values()} == {"torch.float32"}


def open_state(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    uninterrupted: Training, recipe: Recipe, text: Path, tmp_path: Path
) -> None:
    folder = begun(tmp_path / "checkpoint", text, recipe, stop_at=6)
    assert not (folder / "config.json").exists()
    found = loihi_mmfree.train(folder, text=text, device="cpu", resume=True)
    assert found is not None
    assert found.records == uninterrupted.records
    for path in uninterrupted.path.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_training_that_has_ended_is_left_as_it_is(uninterrupted: Training) -> None:
    before = (uninterrupted.path / "model.safetensors").stat()
    notices: list[str] = []
    found = loihi_mmfree.train(uninterrupted.path, resume=True, on_notice=notices.append)
    assert found == uninterrupted
    assert notices == [f"{uninterrupted.path}: this training has ended; nothing is left to do"]
    assert (uninterrupted.path / "model.safetensors").stat() == before


def test_it_goes_on_with_its_own_settings_and_text_only(recipe: Recipe, text: Path, tmp_path: Path) -> None:
    folder = begun(tmp_path / "checkpoint", text, recipe, stop_at=2)
    with pytest.raises(UsageError, match=r"with other settings, .*: steps is 30, not 40"):
        loihi_mmfree.train(folder, steps=40, resume=True)
    other = dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, warmup=0.5))
    with pytest.raises(UsageError, match=r"optimizer\.warmup is 0\.05, not 0\.5"):
        loihi_mmfree.train(folder, other, resume=True)
    (tmp_path / "other.txt").write_text("another text")
    with pytest.raises(UsageError, match="not the text that the training was begun with"):
        loihi_mmfree.train(folder, text=tmp_path / "other.txt", device="cpu", resume=True)
    (folder / "training" / "tokens.bin").write_bytes(b"\0" * 100)
    with pytest.raises(UsageError, match=r"tokens\.bin: damaged"):
        loihi_mmfree.train(folder, device="cpu", resume=True)


def test_two_processes_do_not_train_in_one_folder(recipe: Recipe, text: Path, tmp_path: Path) -> None:
    from loihi_mmfree.train.folder import TrainingFolder

    folder = begun(tmp_path / "checkpoint", text, recipe, stop_at=2)
    with TrainingFolder.open(folder).held(), pytest.raises(UsageError, match="another process trains there"):
        loihi_mmfree.train(folder, device="cpu", resume=True)


class Breaking(nn.Module):
    """Its loss is no number in one step."""

    def __init__(self, broken: Callable[[int, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.calls, self.broken = 0, broken

    def forward(self, ids: Tensor) -> Tensor:
        self.calls += 1
        return self.broken(self.calls, self.weight.square().sum())


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda call, loss: loss * (float("nan") if call == 6 else 1), "step 6: the loss is nan"),
        # Its value is finite, its gradient is not.
        (lambda call, loss: (loss - loss.detach()).sqrt() if call == 6 else loss, "norm of its gradient inf|nan"),
    ],
    ids=["loss", "gradient"],
)
def test_a_loss_that_is_no_number_stops_it_and_keeps_the_last_checkpoint(
    broken: Callable[[int, Tensor], Tensor], said: str, tmp_path: Path, recipe: Recipe, uninterrupted: Training
) -> None:
    settings = dataclasses.replace(recipe, micro_batch=0, save_every=4)
    tokens = tmp_path / "tokens.bin"
    np.arange(400, dtype="<u2").tofile(tokens)
    work = tmp_path / "work"
    work.mkdir()
    from loihi_mmfree.checkpoint.source import SourceFile

    module = Breaking(broken)
    with accelerating(settings, "cpu") as accelerator:
        loop = Loop(accelerator, Learner(module, (module.weight,), lambda *_: None), settings, None)
        with pytest.raises(TrainingError, match=said):
            loop.run(TokenWindows(SourceFile.of(tokens), settings), work, lambda _: None, lambda _: None)
    assert loop.step == 5
    assert module.weight.isfinite().all()
    found = load_last(work, lambda notice: None)
    assert found is not None
    assert found.step == 4


def test_tensorboard_is_told_every_step(recipe: Recipe, text: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    short = dataclasses.replace(recipe, steps=3)
    board = tmp_path / "board"
    found = loihi_mmfree.train(tmp_path / "checkpoint", short, text=text, device="cpu", tensorboard=board)
    assert found is not None
    events = EventAccumulator(str(board))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(
        [record.loss for record in found.records]
    )


def test_facts_of_a_training_name_its_text(recipe: Recipe, text: Path, tmp_path: Path) -> None:
    import hashlib

    folder = begun(tmp_path / "checkpoint", text, recipe, stop_at=1)
    facts = json.loads((folder / "training" / "facts.json").read_text())
    assert facts["text_sha256"] == hashlib.sha256(text.read_bytes()).hexdigest()

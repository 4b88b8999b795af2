"""Tokenizers that are trained or given, tokens in a file, and the windows of steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from loihi_mmfree.checkpoint import ModelConfig
from loihi_mmfree.checkpoint.source import SourceFile
from loihi_mmfree.errors import UsageError
from loihi_mmfree.text import Tokenizer
from loihi_mmfree.train.corpus import DocumentPart, pieces
from loihi_mmfree.train.recipe import Recipe
from loihi_mmfree.train.tokens import TokenWindows, token_type, write_tokens
from loihi_mmfree.train.vocabulary import given_tokenizer, train_tokenizer, write_tokenizer

MODEL = Recipe.preset("tiny").model


def trained(text: Path, model: ModelConfig = MODEL) -> str:
    return train_tokenizer(pieces(text, "text"), model, 10**6)


def windows(folder: Path, count: int, **changes: object) -> TokenWindows:
    """Windows of 4 tokens, of which the first is the number of the window."""
    recipe = Recipe.from_mapping({"shape": "tiny", "window": 4, "batch": 3} | changes)
    tokens = np.repeat(np.arange(count), 4)
    (folder / "tokens.bin").write_bytes(tokens.astype(token_type(recipe.model)).tobytes() + b"\1\0")
    return TokenWindows(SourceFile.of(folder / "tokens.bin"), recipe)


def test_the_same_text_gives_the_same_tokenizer(text: Path) -> None:
    assert trained(text) == trained(text)


def test_a_trained_tokenizer_reads_any_text_and_puts_the_first_token_in_front(text: Path, tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path, trained(text), MODEL)
    assert tokenizer.size == 512
    ids = tokenizer.encode("Ünlike anything 漢字\n\n there")
    assert ids[0] == 1
    assert tokenizer.decode(ids) == "Ünlike anything 漢字\n\n there"
    assert len(tokenizer.encode(text.read_text())) < len(text.read_text()) / 1.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab_size": 258}, "needs 259 or more"),
        ({"eos_token_id": 5}, "model.eos_token_id is 5, and 2 in a tokenizer that is trained"),
    ],
)
def test_a_vocabulary_without_room_for_a_tokenizer_is_refused(
    text: Path, changes: dict[str, int], said: str
) -> None:
    model = Recipe.from_mapping({"shape": "tiny", "model": changes}).model
    with pytest.raises(UsageError, match=said):
        trained(text, model)


def test_a_given_tokenizer_must_fit_the_vocabulary(tiny_checkpoint: Path) -> None:
    path = tiny_checkpoint / "tokenizer.json"
    assert given_tokenizer(path, MODEL) == path.read_text()
    smaller = Recipe.from_mapping({"shape": "tiny", "model": {"vocab_size": 511}}).model
    with pytest.raises(UsageError, match=r"512 tokens, and the model's vocabulary has 511; say vocab_size = 512"):
        given_tokenizer(path, smaller)


def test_a_given_tokenizer_must_have_the_token_that_ends_a_text(tiny_checkpoint: Path) -> None:
    model = Recipe.from_mapping({"shape": "tiny", "model": {"eos_token_id": 70}}).model
    with pytest.raises(UsageError, match="token 70 ends a text of this model, but is no special token"):
        given_tokenizer(tiny_checkpoint / "tokenizer.json", model)


def test_documents_lie_one_behind_the_other_each_with_its_end(tmp_path: Path, tiny_checkpoint: Path) -> None:
    tokenizer = Tokenizer(tiny_checkpoint / "tokenizer.json")
    parts = [
        DocumentPart("It was", True, False),
        DocumentPart(" a night", False, True),
        DocumentPart("Dark", True, True),
    ]
    done: list[int] = []
    count, _ = write_tokens(tmp_path / "tokens.bin", parts, tokenizer, MODEL, done.append)
    expected: Sequence[int] = [*tokenizer.encode("It was a night"), 2, *tokenizer.encode("Dark"), 2]
    found = np.fromfile(tmp_path / "tokens.bin", "<u2")
    assert found.tolist() == expected
    assert (count, done) == (len(expected), [6, 14, 18])


def test_a_pass_reads_every_window_once_and_the_next_one_in_another_order(tmp_path: Path) -> None:
    found = windows(tmp_path, 12)
    first, second = (
        np.concatenate([found.batch(step)[:, 0] for step in steps]).tolist() for steps in (range(4), range(4, 8))
    )
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert first != sorted(first)


def test_what_a_step_reads_follows_from_the_seed(tmp_path: Path) -> None:
    one, same, other = (windows(tmp_path, 12, seed=seed).batch(5) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_pass_may_end_within_a_step(tmp_path: Path) -> None:
    found = windows(tmp_path, 4)
    read = np.concatenate([found.batch(step)[:, 0] for step in range(4)])
    assert np.bincount(read).tolist() == [3, 3, 3, 3]


def test_less_text_than_a_step_reads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="9 tokens are 2 windows of 4, and a step reads 3"):
        windows(tmp_path, 2)

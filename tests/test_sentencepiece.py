"""SentencePiece models become tokenizers with the same ids.

tests/data/sentencepiece/tokenizer.model was trained by SentencePiece 0.2.3 on the built-in calibration text (BPE,
420 pieces, bytes for what is not covered); golden.json holds what `SentencePieceProcessor.encode` gives there.
"""

from __future__ import annotations

import json
import random
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend

from loihi_mmfree.errors import CheckpointError
from loihi_mmfree.sentencepiece import convert, parse
from loihi_mmfree.text import Tokenizer

DATA = Path(__file__).parent / "data" / "sentencepiece"
MODEL = DATA / "tokenizer.model"


def literal_ids(tokenizer: Backend, text: str) -> list[int]:
    """Ids of a text in which names of control tokens are text, as SentencePiece takes it."""
    tokenizer.encode_special_tokens = True
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.fixture(scope="module")
def golden() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DATA / "golden.json").read_text())
    return found


def test_ids_are_those_of_sentencepiece(golden):
    tokenizer = Backend.from_str(convert(MODEL))
    assert [literal_ids(tokenizer, each["text"]) for each in golden] == [each["ids"] for each in golden]


def test_ids_become_the_text_again(golden):
    tokenizer = Tokenizer(MODEL)
    for each in golden:
        # SentencePiece cannot tell a space from the character that stands for one.
        assert tokenizer.decode(each["ids"]) == each["text"].replace("\u2581", " ")


def test_the_tokenizer_knows_as_many_tokens_as_the_model():
    assert Tokenizer(MODEL).size == len(parse(MODEL.read_bytes()).pieces) == 420


@pytest.mark.parametrize(
    ("settings", "before", "after"),
    [
        (None, [], []),
        ({"add_bos_token": True}, [1], []),
        ({"add_bos_token": True, "add_eos_token": True}, [1], [2]),
        ({"add_bos_token": False}, [], []),
        ({"add_bos_token": "yes"}, [], []),
    ],
)
def test_tokens_at_the_ends_are_added_as_tokenizer_config_says(tmp_path, golden, settings, before, after):
    (tmp_path / "tokenizer.model").write_bytes(MODEL.read_bytes())
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    each = golden[3]
    assert Tokenizer(tmp_path / "tokenizer.model").encode(each["text"]) == [*before, *each["ids"], *after]


def field(number: int, value: bytes | int) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return bytes([number << 3 & 127 | 128, number >> 4, value]) if number > 15 else bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value) & 127 | 128, len(value) >> 7]) + value


def piece(text: str, score: float = 0.0, kind: int = 1) -> bytes:
    return field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + field(3, kind))


SMALL = piece("<unk>", kind=2) + piece("a", -2.0) + piece("b", -3.0) + piece("ab", -1.0)
BPE = field(2, field(3, 2))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (SMALL, "of the kind unigram"),
        (SMALL + field(2, field(3, 3)), "of the kind word"),
        (SMALL + field(2, field(3, 4)), "of the kind character"),
        (SMALL.replace(b"\x18\x02", b"\x18\x01") + BPE, "without a piece for the unknown"),
        (SMALL + piece("x", kind=4) + BPE, "with user-defined or unused pieces"),
        (SMALL + field(2, field(3, 2) + field(24, 1)), "that writes spaces in another way"),
        (SMALL + BPE + field(3, field(2, b"\0" * 8)), "that replaces characters by a table"),
        (SMALL + field(2, field(3, 2) + field(35, 1)), "falls back to bytes and lacks pieces"),
        (SMALL + piece("ba", -1.0) + BPE, "two merges have the same score"),
    ],
)
def test_a_model_that_cannot_be_converted_exactly_is_refused_by_what_it_is(tmp_path, content, reason):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{reason}.*put a tokenizer\.json beside it"):
        convert(tmp_path / "tokenizer.model")


def test_the_smallest_model_is_read(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(SMALL + BPE + field(3, field(3, 0)))
    assert literal_ids(Backend.from_str(convert(tmp_path / "tokenizer.model")), "abba") == [3, 2, 1]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(MODEL.read_bytes()[:1000], id="cut off"),
        pytest.param(b"\x0a" + b"\xff" * 20, id="a length without an end"),
        pytest.param(SMALL + SMALL + BPE, id="pieces twice"),
        pytest.param(piece("x" * 300) + BPE, id="a piece too long"),
        pytest.param(piece("x", float("nan")) + BPE, id="a score that is no number"),
        pytest.param(field(1, 3), id="a number in place of a piece"),
        pytest.param(b"\x0b", id="a group"),
    ],
)
def test_a_damaged_model_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable SentencePiece model"):
        convert(tmp_path / "tokenizer.model")


def test_every_byte_that_is_altered_gives_a_tokenizer_or_a_message(tmp_path):
    content, path = MODEL.read_bytes(), tmp_path / "tokenizer.model"
    for position in range(0, len(content), 37):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x15]) + content[position + 1 :])
        try:
            Tokenizer(path).encode("It was a dark night")
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017 (either is right)


@pytest.mark.skipif(find_spec("sentencepiece") is None, reason="the package sentencepiece is not installed")
@pytest.mark.parametrize("settings", [{}, {"byte_fallback": True}, {"split_by_whitespace": False}])
@pytest.mark.parametrize("strip", [True, False])
def test_a_model_trained_here_gives_the_same_ids_on_thousands_of_texts(tmp_path, settings, strip):
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    corpus = Path(__file__).parent.parent / "loihi_mmfree" / "data" / "calibration.txt"
    lines = [line for line in corpus.read_text(encoding="utf-8").splitlines() if line.strip()]
    SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=500,
        model_type="bpe",
        normalization_rule_name="identity",
        remove_extra_whitespaces=strip,
        minloglevel=2,
        **settings,
    )
    drawn = random.Random(0)
    parts = [
        " ",
        "   ",
        "\n",
        "\t",
        "a",
        "the",
        "é",
        "日",
        "\u2581",
        "<s>",
        "<0x0A>",
        "😀",
        "e\u0301",
        "1",
        "aaaa",
    ]
    texts = ["".join(drawn.choices(parts, k=drawn.randrange(14))) for _ in range(1500)]
    texts += [line[drawn.randrange(len(line)) :] for line in drawn.choices(lines, k=500)]
    texts += ["a" + " " * count + "b" for count in range(60)]
    oracle = SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    tokenizer = Backend.from_str(convert(tmp_path / "tokenizer.model"))
    wrong = [text for text in texts if literal_ids(tokenizer, text) != oracle.encode(text)]
    assert wrong == []

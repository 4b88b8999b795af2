"""Text as it comes: the same, for every split of the ids, as what the tokenizer makes of all of them at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from loihi_mmfree.errors import UsageError
from loihi_mmfree.text import TextStream, Tokenizer

CORPUS = [
    "It was a dark night, and the old man said: don't!",
    "naïve café €5 — 日本語 😀😀 ñ",
    "  two  spaces\n\tand a tab",
]
END, BEGIN = "</s>", "<s>"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level() -> Backend:
    tokenizer = Backend(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=[BEGIN, END])
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece(decoder: decoders.Decoder) -> Backend:
    """Pieces with a mark for the space and a token for every byte, as in the tokenizers of Llama and Mistral."""
    pieces = [
        "<unk>",
        BEGIN,
        END,
        *BYTES,
        "▁",
        "▁was",
        "▁It",
        "It",
        "a",
        "▁a",
        ".",
        "▁▁",
        "é",
        "don",
        "'",
        "t",
        "\n",
    ]
    tokenizer = Backend(
        models.BPE(
            {piece: number for number, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True
        )
    )
    tokenizer.add_special_tokens(["<unk>", BEGIN, END])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoder
    return tokenizer


def llama() -> Backend:
    steps = [
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ]  # fmt: skip
    return sentencepiece(decoders.Sequence(steps))


def metaspace() -> Backend:
    return sentencepiece(decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]))


def unigram() -> Backend:
    tokenizer = Backend(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>", BEGIN, END], unk_token="<unk>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def wordpiece() -> Backend:
    tokenizer = Backend(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=150, special_tokens=["<unk>", BEGIN, END])
    )
    return tokenizer


def no_decoder() -> Backend:
    tokenizer = Backend(
        models.WordLevel({word: number for number, word in enumerate([BEGIN, END, "<unk>", "a", "b"])})
    )
    tokenizer.add_special_tokens([AddedToken(BEGIN), AddedToken(END)])
    return tokenizer


KINDS: list[Callable[[], Backend]] = [byte_level, llama, metaspace, unigram, wordpiece, no_decoder]


@pytest.fixture(scope="module", params=KINDS, ids=[kind.__name__ for kind in KINDS])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    request.param().save(str(path))
    return Tokenizer(path)


def open_kind(kind: Callable[[], Backend], folder: Path) -> Tokenizer:
    kind().save(str(folder / "tokenizer.json"))
    return Tokenizer(folder / "tokenizer.json")


def streamed(tokenizer: Tokenizer, ids: list[int], before: list[int] | None = None) -> str:
    stream = TextStream(tokenizer, before or [])
    return "".join([*map(stream.push, ids), stream.finish()])


def size(tokenizer: Tokenizer) -> int:
    return int(tokenizer._backend.get_vocab_size())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pieces_make_what_the_tokenizer_makes_of_all_ids(tokenizer: Tokenizer, data: st.DataObject) -> None:
    # Two ids beyond the vocabulary: a padded embedding has rows that stand for no token.
    ids = data.draw(st.lists(st.integers(0, size(tokenizer) + 1), max_size=40))
    assert streamed(tokenizer, ids) == tokenizer.decode(ids)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_prompt_and_what_follows_make_one_text(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, size(tokenizer) + 1), max_size=40))
    split = data.draw(st.integers(0, len(ids)))
    before, whole = tokenizer.decode(ids[:split]), tokenizer.decode(ids)
    # Half a character, or bytes that turn out to be no character, are given once they are known.
    alike = max(number for number in range(len(before) + 1) if before[:number] == whole[:number])
    assert whole[:alike] + streamed(tokenizer, ids[split:], ids[:split]) == whole


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=20))
def test_a_text_comes_back_as_the_tokenizer_gives_it(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert streamed(tokenizer, ids) == tokenizer.decode(ids)


def test_the_first_word_after_a_prompt_keeps_its_space(tmp_path: Path) -> None:
    tokenizer = open_kind(llama, tmp_path)
    ids = [tokenizer._backend.token_to_id(piece) for piece in ("▁It", "▁was", "▁a")]
    assert streamed(tokenizer, ids[1:], ids[:1]) == " was a"


def test_half_a_character_at_the_end_is_shown_as_the_tokenizer_shows_it(tmp_path: Path) -> None:
    tokenizer = open_kind(byte_level, tmp_path)
    ids = tokenizer.encode("a漢")
    assert streamed(tokenizer, ids[:-1]) == tokenizer.decode(ids[:-1]) != "a"


def test_invalid_bytes_hold_nothing_back_that_follows(tmp_path: Path) -> None:
    tokenizer = open_kind(byte_level, tmp_path)
    invalid = tokenizer._backend.token_to_id("ÿ")
    stream = TextStream(tokenizer)
    given = "".join(stream.push(token) for token in [invalid] * 50)
    assert len(given) >= 49
    assert stream.push(tokenizer.encode("a")[0]).endswith("a")


@pytest.mark.parametrize("kind", [byte_level, llama, unigram])
def test_a_token_costs_the_decoding_of_a_few(
    kind: Callable[[], Backend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = open_kind(kind, tmp_path)
    decoded, decode = [], tokenizer.decode

    def count(ids: list[int]) -> str:
        decoded.append(len(ids))
        return decode(ids)

    monkeypatch.setattr(tokenizer, "decode", count)
    ids = [number * 7919 % size(tokenizer) for number in range(2000)]
    stream = TextStream(tokenizer)
    for token in ids:
        stream.push(token)
    assert sum(decoded) < 40 * len(ids)


@pytest.mark.parametrize("kind", [byte_level, llama, metaspace, wordpiece])
def test_a_typed_special_token_is_text(kind: Callable[[], Backend], tmp_path: Path) -> None:
    tokenizer = open_kind(kind, tmp_path)
    special = {tokenizer._backend.token_to_id(name) for name in (BEGIN, END)}
    assert not special & set(tokenizer.encode(f"a{END}{BEGIN}"))


def test_a_typed_special_token_that_the_model_takes_for_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"holds {END}"):
        open_kind(unigram, tmp_path).encode(f"a{END}")


def test_a_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not valid UTF-8"):
        open_kind(byte_level, tmp_path).encode("ab\udcff")


def test_the_file_says_whether_bytes_are_tokens(tmp_path: Path) -> None:
    tokenizer = open_kind(llama, tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["decoder"]["type"] == "Sequence"
    assert tokenizer.is_byte(tokenizer._backend.token_to_id("<0xE2>"))
    assert not open_kind(unigram, tmp_path).is_byte(5)

"""Text to token ids and back, through a checkpoint's own tokenizer.json or tokenizer.model; words for numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loihi_mmfree.errors import CheckpointError, UsageError
from loihi_mmfree.files import read_regular
from loihi_mmfree.sentencepiece import convert
from loihi_mmfree.tokenizer_file import encode_in_time, guarded, load_tokenizer

LARGEST_TOKENIZER_BYTES = 64 * 2**20
_REPLACEMENT = "\ufffd"
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8, and so the most tokens of which it can consist."""
_MOST_HELD = 2 * _LONGEST_CHARACTER


def counted(number: int, what: str) -> str:
    """Return a number with what is counted: 1 chip, 2 chips."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def tokenizer_json(path: Path) -> str:
    """Return a tokenizer as the text of a tokenizer.json; a SentencePiece model (`.model`) is converted.

    Raises
    ------
    CheckpointError
        It cannot be read.
    """
    if path.suffix == ".model":
        return convert(path)
    try:
        return read_regular(path, LARGEST_TOKENIZER_BYTES).decode("utf-8")
    except OSError as error:
        raise CheckpointError(f"{path}: not a readable tokenizer: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not a readable tokenizer: {error}") from error


class Tokenizer:
    """A tokenizer of Hugging Face or SentencePiece.

    Typed text is text: a `</s>` in it is four characters and never the special token.

    Parameters
    ----------
    path : Path
        tokenizer.json or tokenizer.model.
    """

    def __init__(self, path: Path) -> None:
        self._where = str(path)
        self._backend: Any = load_tokenizer(tokenizer_json(path), self._where)
        self._backend.encode_special_tokens = True
        added = self._backend.get_added_tokens_decoder()
        self._special = {number: token.content for number, token in added.items() if token.special}
        self._falls_back = "ByteFallback" in json.dumps(json.loads(self._backend.to_str())["decoder"])

    @property
    def size(self) -> int:
        """Number of tokens that it knows."""
        return int(self._backend.get_vocab_size())

    def encode(self, text: str, special_tokens: bool = True) -> list[int]:
        """Return token ids, with whatever the tokenizer itself adds in front; only with `special_tokens`.

        Raises
        ------
        UsageError
            The text holds what is no character, or the name of a special token which the tokenizer's model has
            among its pieces, as Unigram models do.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"the text is not valid UTF-8: what stands at character {error.start} is no character; "
                "give it in UTF-8"
            ) from error
        found = encode_in_time(self._backend, text, self._where, special_tokens)
        for token, put_in_front in zip(found.ids, found.special_tokens_mask, strict=True):
            name = self._special.get(token)
            if name is not None and not put_in_front and name in text:
                raise UsageError(
                    f"the text holds {name}, which this tokenizer cannot tell from its special token; leave it out"
                )
        return list(found.ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; special tokens, and ids that stand for none, are left out."""
        return guarded(lambda: str(self._backend.decode(list(ids))), self._where)

    def is_shown(self, token: int) -> bool:
        """Whether a token id stands for text."""
        return token not in self._special and self._backend.id_to_token(token) is not None

    def is_special(self, token: int) -> bool:
        """Whether a token id stands for no text, as one that begins or ends it does."""
        return token in self._special

    def name(self, token: int) -> str:
        """Return how the tokenizer writes a token; empty if there is none of this id."""
        return self._backend.id_to_token(token) or ""

    def is_byte(self, token: int) -> bool:
        """Whether a token is a byte, whose meaning is known only when the run of bytes around it has ended.

        A run that is not UTF-8 becomes one replacement character for every byte of it, the valid ones too.
        """
        return self._falls_back and _BYTE.fullmatch(self._backend.id_to_token(token) or "") is not None


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))


class TextStream:
    """Turns ids into text as they come; all of it together is what the tokenizer makes of all ids.

    What could still change is held back: bytes of an unfinished character. A token costs the decoding of a few,
    whatever came before.

    Parameters
    ----------
    tokenizer : Tokenizer
    before : iterable of int
        Tokens in front, a prompt. Their text is not given, unless later tokens change it: half a character that
        they end with is given as a whole.
    """

    def __init__(self, tokenizer: Tokenizer, before: Iterable[int] = ()) -> None:
        self._tokenizer = tokenizer
        # A token whose text is certain: what follows may depend on whether there is one (a first word has no
        # space in front). Behind it those whose text is not, and how much of that is certain and was given.
        self._context: list[int] = []
        self._held: list[int] = []
        self._given = 0
        self._before = ""
        for token in before:
            self.push(token)
        self._before = self._text(self._context, self._held)

    def push(self, token: int) -> str:
        """Return the text that one more token makes certain."""
        if not self._tokenizer.is_shown(token):
            return ""
        self._held.append(token)
        if self._tokenizer.is_byte(token):
            return ""
        text = self._text(self._context, self._held)
        new = self._new(text.removesuffix(_REPLACEMENT))
        if not text.endswith(_REPLACEMENT):
            self._let_go(len(self._held), text)
        elif len(self._held) > _MOST_HELD:
            self._let_go_of_whole_characters(text)
        return new

    def finish(self) -> str:
        """Return what was held back: no token follows."""
        return self._new(self._text(self._context, self._held))

    def _text(self, context: list[int], tokens: list[int]) -> str:
        """The text of tokens behind others."""
        return self._tokenizer.decode([*context, *tokens])[len(self._tokenizer.decode(context)) :]

    def _new(self, certain: str) -> str:
        """What was not given yet of the held tokens' text as far as it is certain."""
        given = max(self._given, _alike(self._before, certain))
        self._given = max(given, len(certain))
        return certain[given:]

    def _let_go(self, count: int, text: str) -> None:
        """Hold so many tokens less, whose text is certain and was given."""
        if text or not self._context:
            self._context = self._held[count - 1 : count]
        self._held = self._held[count:]
        self._given, self._before = max(0, self._given - len(text)), self._before[len(text) :]

    def _let_go_of_whole_characters(self, text: str) -> None:
        """Let go of tokens at the front which make whole characters, be they replacements of invalid bytes."""
        for count in range(len(self._held) - _LONGEST_CHARACTER, 0, -1):
            front = self._text(self._context, self._held[:count])
            if front + self._text(self._held[count - 1 : count], self._held[count:]) == text:
                self._let_go(count, front)
                return

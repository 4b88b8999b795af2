"""Text to token ids and back, through the checkpoint's own tokenizer.json or tokenizer.model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loihi_mmfree.errors import CheckpointError
from loihi_mmfree.files import read_regular
from loihi_mmfree.sentencepiece import convert

LARGEST_TOKENIZER_BYTES = 256 * 2**20
_INCOMPLETE = "\ufffd"


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

    Parameters
    ----------
    path : Path
        tokenizer.json or tokenizer.model.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Backend

        content = tokenizer_json(path)
        try:
            self._backend: Any = Backend.from_str(content)
        except Exception as error:  # the library raises plain Exception for every fault
            raise CheckpointError(f"{path}: not a readable tokenizer: {error}") from error

    @property
    def size(self) -> int:
        """Number of tokens that it knows."""
        return int(self._backend.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """Return token ids, with whatever the tokenizer itself adds in front."""
        return list(self._backend.encode(text).ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; special tokens are left out."""
        return str(self._backend.decode(list(ids)))


class TextStream:
    """Turns ids into text as they come, holding back what may be half a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = 0

    def push(self, token: int) -> str:
        """Return the text that one more token makes certain."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        if text.endswith(_INCOMPLETE):
            return ""
        new, self._shown = text[self._shown :], len(text)
        return new

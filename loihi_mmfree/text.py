"""Text to token ids and back, through the checkpoint's own tokenizer.json."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loihi_mmfree.errors import CheckpointError

_INCOMPLETE = "\ufffd"


class Tokenizer:
    """A Hugging Face tokenizer file.

    Parameters
    ----------
    path : Path
        tokenizer.json.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Backend

        try:
            self._backend: Any = Backend.from_file(str(path))
        except Exception as error:  # the library raises plain Exception for every fault
            raise CheckpointError(f"{path}: not a readable tokenizer: {error}") from error

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

"""Documents out of plain text or JSON lines, in pieces, so that no file has to fit in memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import open_regular
from loihi_mmfree.untrusted import parse_json, short

SEPARATOR = "\0"
"""Stands between two documents of plain text."""
LONGEST_PIECE = 2**20
"""Characters of a piece, about."""
LARGEST_LINE_BYTES = 2**26
"""Of a line of JSON."""


@dataclass(frozen=True)
class DocumentPart:
    """A part of a document.

    Parameters
    ----------
    text : str
    first, last : bool
        Whether the document begins and ends with it.
    """

    text: str
    first: bool
    last: bool


def pieces(path: Path, field: str) -> Iterator[DocumentPart]:
    """Yield the documents of a file in pieces; those without text are left out.

    Parameters
    ----------
    path : Path
        `.jsonl`: a JSON object a line, each a document. Anything else is plain text in UTF-8, one document, or
        several with a NUL character between them.
    field : str
        The key under which a JSON object has the text.

    Raises
    ------
    UsageError
        The file cannot be read, is not UTF-8, or a line of it is no such object.
    """
    parts = _json_lines(path, field) if path.suffix == ".jsonl" else _plain_text(path)
    first, held = True, ""
    for text, ends in parts:
        if text:
            # Held until it is known whether the document goes on.
            if held:
                yield DocumentPart(held, first, False)
                first = False
            held = text
        if ends:
            if held.strip() or not first:
                yield DocumentPart(held, first, True)
            first, held = True, ""


def _plain_text(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield texts, and whether a document ends behind each."""
    pending = ""
    for text in _decoded(path):
        *whole, pending = (pending + text).split(SEPARATOR)
        for document in whole:
            yield from _cut(document)
            yield "", True
        *ready, pending = (each for each, _ in _cut(pending)) if len(pending) > 2 * LONGEST_PIECE else (pending,)
        yield from ((each, False) for each in ready)
    yield from _cut(pending)
    yield "", True


def _cut(text: str) -> Iterator[tuple[str, bool]]:
    """Cut a text behind ends of lines, or anywhere if there are none."""
    start = 0
    while len(text) - start > LONGEST_PIECE:
        end = text.rfind("\n", start, start + LONGEST_PIECE) + 1 or start + LONGEST_PIECE
        yield text[start:end], False
        start = end
    yield text[start:], False


def _decoded(path: Path) -> Iterator[str]:
    """Yield the text of a file; a byte order mark at its beginning is no part of it."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    offset = 0
    try:
        with open_regular(path) as file:
            while True:
                chunk = file.read(LONGEST_PIECE)
                held = len(decoder.getstate()[0])
                try:
                    yield decoder.decode(chunk, final=not chunk)
                except UnicodeDecodeError as error:
                    raise UsageError(
                        f"`text` {path}: not UTF-8: byte {offset - held + error.start} ({error.reason}); convert "
                        "it to UTF-8"
                    ) from error
                if not chunk:
                    return
                offset += len(chunk)
    except OSError as error:
        raise UsageError(f"`text` {path}: cannot be read: {error.strerror}") from error


def _json_lines(path: Path, field: str) -> Iterator[tuple[str, bool]]:
    """Yield the text of every line, cut into pieces, and whether the document ends behind each."""
    number = 0
    try:
        with open_regular(path) as file:
            while line := file.readline(LARGEST_LINE_BYTES + 1):
                number += 1
                if len(line) > LARGEST_LINE_BYTES:
                    raise UsageError(
                        f"`text` {path}: line {number} has more than {LARGEST_LINE_BYTES} bytes; cut the document"
                    )
                if line.strip():
                    yield from _cut(_text_of(line, path, number, field))
                    yield "", True
    except OSError as error:
        raise UsageError(f"`text` {path}: cannot be read: {error.strerror}") from error


def _text_of(line: bytes, path: Path, number: int, field: str) -> str:
    try:
        document = parse_json(line)
    except ValueError as error:
        raise UsageError(f"`text` {path}: line {number} is no JSON object: {error}") from error
    text = document.get(field) if isinstance(document, dict) else None
    if not isinstance(text, str):
        found = sorted(document) if isinstance(document, dict) else document
        raise UsageError(
            f"`text` {path}: line {number} has no text under {field!r} but {short(found)}; the recipe's "
            "text.field names the key"
        )
    return text

"""Documents of plain text and of JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loihi_mmfree.errors import UsageError
from loihi_mmfree.train import corpus
from loihi_mmfree.train.corpus import pieces


def documents(path: Path, field: str = "text") -> list[str]:
    """All documents, put together from their pieces."""
    found: list[str] = []
    last = True
    for piece in pieces(path, field):
        assert piece.first == last
        last = piece.last
        found = [*found, piece.text] if piece.first else [*found[:-1], found[-1] + piece.text]
    assert last
    return found


def write(folder: Path, content: bytes, name: str = "text.txt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_nul_characters_stand_between_documents(tmp_path: Path) -> None:
    assert documents(write(tmp_path, b"one\ntwo\0three\0\0 \n \0")) == ["one\ntwo", "three"]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert documents(write(tmp_path, b"\xef\xbb\xbfone")) == ["one"]


@pytest.mark.parametrize("separator", ["\n", ""])
def test_long_documents_come_in_pieces_and_whole(
    tmp_path: Path, separator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "LONGEST_PIECE", 50)
    long = separator.join(f"line {number} é" for number in range(100))
    path = write(tmp_path, f"short\0{long}\0end".encode())
    assert documents(path) == ["short", long, "end"]
    assert max(len(piece.text) for piece in pieces(path, "text")) <= 100


def test_lines_of_json_are_documents(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"id": number, "body": f"text {number}"}) for number in range(3))
    assert documents(write(tmp_path, f"{lines}\n\n".encode(), "a.jsonl"), "body") == ["text 0", "text 1", "text 2"]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"caf\xe9 au lait", "a.txt", "not UTF-8: byte 3"),
        (b"ok \xc3", "a.txt", "not UTF-8: byte 3"),
        (b'{"text": "a"}\nno json', "a.jsonl", "line 2 is no JSON object"),
        (b'{"text": "a"}\n{"body": "b"}', "a.jsonl", "line 2 has no text under 'text' but ['body']"),
        (b'{"text": 3}', "a.jsonl", "line 1 has no text"),
        (b"[1]", "a.jsonl", "line 1 has no text under 'text' but [1]"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, content: bytes, name: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        documents(write(tmp_path, content, name))
    assert said in str(refused.value)


def test_the_place_counts_from_the_beginning_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "LONGEST_PIECE", 10)
    with pytest.raises(UsageError, match="byte 34 "):
        documents(write(tmp_path, "é".encode() * 17 + b"\xff" + b"a" * 20))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        documents(tmp_path / "none.txt")

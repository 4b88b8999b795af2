"""tokenizer.json from strangers: it encodes as its author meant, or is refused; the process goes on."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loihi_mmfree import tokenizer_file
from loihi_mmfree.errors import CheckpointError
from loihi_mmfree.text import Tokenizer

TEXT = "It was a dark night, and the old man" * 3
PADDING = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"}


def sequence(*parts: Any) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(parts)}


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def charsmap(table: bytes) -> dict[str, Any]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def split(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


@pytest.fixture
def altered(demo_checkpoint: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes the tokenizer of mmf-demo with some parts changed, those of its model by `model`."""

    def write(model: dict[str, Any] | None = None, **parts: Any) -> Path:
        data = json.loads((demo_checkpoint / "tokenizer.json").read_text())
        data["model"].update(model or {})
        (tmp_path / "tokenizer.json").write_text(json.dumps({**data, **parts}))
        return tmp_path / "tokenizer.json"

    return write


@pytest.mark.parametrize(
    "parts",
    [
        {"padding": {"strategy": {"Fixed": 10**18}, **PADDING}},
        {"truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}},
        {"truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 10}},
        {"model": {"dropout": 0.9}},
    ],
    ids=["padding", "truncation", "stride over length", "dropout"],
)
def test_settings_of_training_change_no_prompt(
    demo_checkpoint: Path, altered: Callable[..., Path], parts: dict[str, Any]
) -> None:
    expected = Tokenizer(demo_checkpoint / "tokenizer.json").encode(TEXT)
    assert Tokenizer(altered(**parts)).encode(TEXT) == expected


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"model": {"unk_token": "<nowhere>"}}, "unknown token '<nowhere>' is not in its vocabulary"),
        ({"model": {"vocab": 7}}, "vocab is neither"),
        ({"model": {"vocab": {"x" * 5000: 0}}}, "more than 4096 characters"),
        ({"normalizer": charsmap(b"\xff" * 3)}, "precompiled_charsmap says"),
        ({"normalizer": charsmap(b"\xff\xff\xff\x7fabc")}, "precompiled_charsmap says 2147483647 bytes"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "?"}}, "is not base64"),
        ({"normalizer": sequence(*[replace({"String": "a"}, "a" * 100)] * 8)}, "more than 4096 times longer"),
        ({"normalizer": replace({"String": ""}, "x")}, "a Replace of nothing"),
        ({"post_processor": {"type": "TemplateProcessing", "single": [{}] * 100}}, "has 100 parts"),
        ({"surprise": 1}, "unknown surprise"),
    ],
)
def test_what_is_unsafe_to_run_is_refused_before_it_is_loaded(
    altered: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, parts: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(tokenizer_file, "guarded", lambda *_: pytest.fail("was loaded"))
    with pytest.raises(CheckpointError, match=words):
        Tokenizer(altered(**parts))


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": charsmap(b"\x04\x00\x00\x00abcd\xff\xfe")},
        {"normalizer": charsmap(b"\x08\x00\x00\x00" + b"\xff" * 8 + b"abc")},
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {"pre_tokenizer": split("(([a-z ])+.)+[A-Z]([a-z])+$")},
        {"pre_tokenizer": {"type": "Unheard of"}},
        {"model": {"type": "Unigram", "unk_id": None, "vocab": [["a", -1.0]], "merges": None}},
    ],
)
def test_a_fault_within_the_library_is_an_error_of_the_file(
    altered: Callable[..., Path], parts: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: the tokenizer failed"):
        Tokenizer(altered(**parts)).encode(TEXT)


def test_an_expression_that_searches_for_ever_is_given_up(
    altered: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_file, "SECONDS", 0.2)
    monkeypatch.setattr(tokenizer_file, "CHARACTERS_PER_SECOND", 1e9)
    tokenizer = Tokenizer(altered(pre_tokenizer=split("(([a-z ])+.)+[A-Z]([a-z])+$")))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: no end after 0 s of encoding"):
        tokenizer.encode(("a" * 19 + "B\n") * 2000)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 100_000, b'{"model": 1}', b"\xff"])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a (usable|readable) tokenizer"):
        Tokenizer(tmp_path / "tokenizer.json")


def test_a_tokenizer_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="not a regular file"):
        Tokenizer(tmp_path / "tokenizer.json")

"""tokenizer.json from strangers: read as data first, and what is unsafe in it refused or set aside.

The library that runs it is written in Rust: an allocation that is too large aborts the process, a fault within
it is no `Exception`, and a regular expression can search for hours. So what could make it allocate without
bound is refused before the library sees it, its faults are caught by their type, and encoding has a limit of
time.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from loihi_mmfree.errors import CheckpointError, LoihiMmfreeError
from loihi_mmfree.untrusted import parse_json, short, some_of

MOST_VALUES = 2**22
"""Values in a file: a token with its score is three, and so is a merge."""
LONGEST_TOKEN = 4096
LONGEST_TEXT = 4096
"""Characters of a text within a component; a table of characters (`precompiled_charsmap`) is checked apart."""
MOST_PARTS = 64
"""Components of a sequence, or pieces of a template."""
LARGEST_GROWTH = 4096
"""How many times longer replacements may make a text."""
SECONDS, CHARACTERS_PER_SECOND = 20.0, 5000
"""Time to encode any text, and the speed below which a tokenizer is taken to be caught in its own expressions."""
_KEYS = {"version", "truncation", "padding", "added_tokens"}
_COMPONENTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")

T = TypeVar("T")


def load_tokenizer(content: str, where: str) -> Any:
    """Load the text of a tokenizer.json as `tokenizers.Tokenizer`; `where` names it in errors.

    Its settings of truncation, padding and dropout are left out: they are for training, and would cut a prompt,
    add to it, or encode it differently each time.

    Raises
    ------
    CheckpointError
        It is no tokenizer, or holds what is not safe to run.
    """
    try:
        data = parse_json(content.encode(), MOST_VALUES)
        _check(data)
    except ValueError as error:
        raise CheckpointError(f"{where}: not a usable tokenizer: {error}") from error
    # Texts come one by one; threads of the library would only complain when Lava's own runtime forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    if any(data.get(key) is not None for key in ("truncation", "padding")) or data["model"].get("dropout"):
        plain = {**data, "truncation": None, "padding": None, "model": {**data["model"], "dropout": None}}
        content = json.dumps(plain)
    return guarded(lambda: Tokenizer.from_str(content), where)


def guarded(call: Callable[[], T], where: str) -> T:
    """Call into the library; whatever goes wrong in it is an error of the file that `where` names.

    Raises
    ------
    CheckpointError
        The call failed, panics of Rust included.
    """
    try:
        return call()
    except LoihiMmfreeError:  # of what the library was given to read
        raise
    except Exception as error:  # the library raises plain Exception for every fault
        raise CheckpointError(f"{where}: the tokenizer failed: {error}") from error
    except BaseException as error:
        # A panic of Rust, which is not derived from Exception; its type cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{where}: the tokenizer failed: {error}") from error


def encode_in_time(tokenizer: Any, text: str, where: str, special_tokens: bool = True) -> Any:
    """Return the `Encoding` of a text, with the special tokens that the tokenizer adds to any, or without.

    It is made in a thread: nothing else stops a search of a regular expression that does not end.

    Raises
    ------
    CheckpointError
        The library failed, or took too long.
    """
    done: list[Any] = []
    failed: list[BaseException] = []

    def encode() -> None:
        try:
            # Of the library's two functions only that for many texts lets go of the interpreter meanwhile.
            done.append(
                guarded(lambda: tokenizer.encode_batch([text], add_special_tokens=special_tokens)[0], where)
            )
        except BaseException as error:
            failed.append(error)

    seconds = SECONDS + len(text) / CHARACTERS_PER_SECOND
    thread = threading.Thread(target=encode, daemon=True, name="encode")
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise CheckpointError(
            f"{where}: no end after {seconds:.0f} s of encoding {len(text)} characters; the tokenizer is damaged, "
            "or made to never end"
        )
    return done[0]


def _check(data: Any) -> None:
    """Raise ValueError unless the library can be trusted with what was read."""
    if not isinstance(data, dict) or not isinstance(data.get("model"), dict):
        raise ValueError("it has no model")
    unknown = data.keys() - _KEYS - {"model", *_COMPONENTS}
    if unknown:
        raise ValueError(f"unknown {some_of(sorted(unknown))}")
    _check_model(data["model"])
    added = data.get("added_tokens") or []
    if not isinstance(added, list):
        raise ValueError("added_tokens must be a list")
    growths: list[float] = []
    for name in _COMPONENTS:
        for key, value in _values(data.get(name)):
            if key == "precompiled_charsmap":
                _check_charsmap(value)
            elif isinstance(value, str) and len(value) > LONGEST_TEXT:
                raise ValueError(f"{name}: {short(key)} has {len(value)} characters, at most {LONGEST_TEXT}")
            elif isinstance(value, list) and len(value) > MOST_PARTS:
                raise ValueError(f"{name}: {short(key)} has {len(value)} parts, at most {MOST_PARTS}")
            elif isinstance(value, dict) and value.get("type") in ("Replace", "Prepend"):
                growths.append(_growth(value))
    if math.prod(growths) > LARGEST_GROWTH:
        raise ValueError(f"its replacements make a text more than {LARGEST_GROWTH} times longer")


def _check_model(model: Mapping[str, Any]) -> None:
    vocab = model.get("vocab")
    if isinstance(vocab, dict):
        tokens: Any = vocab.keys()
    elif isinstance(vocab, list) and all(isinstance(each, list) and each for each in vocab):
        tokens = {each[0] for each in vocab if isinstance(each[0], str)}
    else:
        raise ValueError("model: vocab is neither tokens with ids nor a list of tokens with scores")
    if max(map(len, tokens), default=0) > LONGEST_TOKEN:
        raise ValueError(f"model: a token of more than {LONGEST_TOKEN} characters")
    unknown = model.get("unk_token")
    # Only byte-level BPE has none to fall back on; elsewhere the first unknown character would end the program.
    if unknown is not None and unknown not in tokens:
        raise ValueError(f"model: its unknown token {short(unknown)} is not in its vocabulary")


def _values(component: Any) -> Iterator[tuple[str, Any]]:
    """Every value within a component, with its key; itself first."""
    stack = [("", component)]
    while stack:
        key, value = stack.pop()
        yield key, value
        if isinstance(value, dict):
            stack += [(str(name), each) for name, each in value.items()]
        elif isinstance(value, list):
            stack += [(key, each) for each in value]


def _growth(component: Mapping[str, Any]) -> float:
    """How many times longer one replacement can make a text."""
    if component["type"] == "Prepend":
        return 1 + len(str(component.get("prepend")))
    pattern, content = component.get("pattern"), component.get("content")
    if not isinstance(pattern, dict) or not isinstance(content, str):
        raise ValueError("a Replace without pattern and content")
    text = pattern.get("String", "")
    if "String" in pattern and not text:
        raise ValueError("a Replace of nothing by something")
    return max(1.0, len(content.encode()) / max(1, len(str(text).encode())))


def _check_charsmap(value: Any) -> None:
    """Raise ValueError unless a table of characters is as long as it says; SentencePiece's normaliser has one."""
    if value is None:
        return
    try:
        table = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise ValueError(f"precompiled_charsmap is not base64: {error}") from error
    length = int.from_bytes(table[:4], "little")
    if not table or length % 4 or length == 0 or 4 + length > len(table):
        raise ValueError(f"precompiled_charsmap says {length} bytes, and has {len(table)}")

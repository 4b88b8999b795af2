"""Questions with answers to choose from, and texts to complete: JSON lines to what a model reads.

Prompts and scores follow lm-evaluation-harness (EleutherAI) for ARC, PIQA, OpenBookQA, HellaSwag and WinoGrande,
without examples in front.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.texts import Item, Text, check_limit
from loihi_mmfree.files import read_text
from loihi_mmfree.text import Tokenizer
from loihi_mmfree.untrusted import parse_json, short

LARGEST_TASK_BYTES = 2**28
MOST_CHOICES = 1000


@dataclass(frozen=True)
class Question:
    """A question with its answers, or a text with its one continuation.

    Parameters
    ----------
    requests : tuple of (context, continuation)
        One for every answer; a continuation begins with its space.
    gold : int
        Number of the right answer.
    lengths : tuple of int, optional
        Characters of each answer, by which its log likelihood is divided for the normed accuracy.
    """

    requests: tuple[tuple[str, str], ...]
    gold: int
    lengths: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Task:
    """What a file asks.

    Parameters
    ----------
    name : str
        The file's, without suffix.
    layout : str
        One of `LAYOUTS`.
    questions : tuple of Question
    """

    name: str
    layout: str
    questions: tuple[Question, ...]

    def items(self, tokenizer: Tokenizer) -> tuple[Item, ...]:
        """Return what a model reads: a text for every answer.

        Raises
        ------
        UsageError
            A continuation has no tokens of its own.
        """
        return tuple(
            Item(tuple(_text(tokenizer, *request, f"item {number}") for request in question.requests))
            for number, question in enumerate(self.questions)
        )


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Return a context and its continuation as tokens, divided as lm-evaluation-harness does it.

    Spaces at the end of the context go to the continuation; both are encoded together, and the tokens behind those
    of the context alone are the continuation's. No token is put in front.
    """
    kept = context.rstrip()
    both = tokenizer.encode(context + continuation, special_tokens=False)
    ids = tokenizer.encode(kept, special_tokens=False)
    return ids, both[len(ids) :]


def _text(tokenizer: Tokenizer, context: str, continuation: str, where: str) -> Text:
    before, behind = encode_pair(tokenizer, context, continuation)
    if not before or not behind:
        what = "context" if not before else "continuation"
        raise UsageError(f"{where}: the {what} has no tokens: {short(context)} and {short(continuation)}")
    return Text(np.array(before + behind, dtype=np.int64), len(before))


def read_task(path: Path, limit: int | None = None) -> Task:
    """Read a file of JSON lines; its keys tell the layout (`LAYOUTS`).

    Parameters
    ----------
    path : Path
    limit : int, optional
        Most items; all by default.

    Raises
    ------
    UsageError
        It cannot be read, is empty, or a line is none of the known layouts or has an unknown label.
    """
    check_limit(limit)
    lines = read_text(path, LARGEST_TASK_BYTES, "`task`").split("\n")
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise UsageError(f"`task` {path}: holds no item; expected a JSON object on every line")
    layout, questions = "", []
    for number, line in numbered[:limit]:
        where = f"`task` {path}, line {number}"
        data = _object(line, where)
        found = next((name for name, (keys, _) in LAYOUTS.items() if keys <= data.keys()), None)
        if found is None or (layout and found != layout):
            known = "; ".join(", ".join(sorted(keys)) for keys, _ in LAYOUTS.values())
            expected = f"those of the lines before ({layout})" if layout else f"one of: {known}"
            raise UsageError(f"{where}: its keys are {short(sorted(data))}; expected {expected}")
        layout = found
        questions.append(_question(LAYOUTS[layout][1], data, where))
    return Task(path.stem, layout, tuple(questions))


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        data = parse_json(line.encode())
    except ValueError as error:
        raise UsageError(f"{where}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{where}: holds a {type(data).__name__}; expected a JSON object")
    return data


def _question(read: Callable[[Mapping[str, Any]], Question], data: Mapping[str, Any], where: str) -> Question:
    try:
        question = read(data)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    count = len(question.requests)
    if not 0 <= question.gold < count:
        raise UsageError(f"{where}: label {question.gold}, with {count} answers; it must be 0 to {count - 1}")
    return question


def _choices(data: Mapping[str, Any]) -> Question:
    """ARC and PIQA (whose queries begin with "Question:"), and OpenBookQA."""
    query, choices = _string(data, "query"), _strings(data, "choices")
    if query.startswith("Question:"):
        query = query.removesuffix("\n") + "\nAnswer:"
    return _answered(query, choices, _label(data, "gold"))


def _options(data: Mapping[str, Any]) -> Question:
    """WinoGrande: the answers stand in the context, and only what follows both is scored."""
    continuation = " " + _string(data, "continuation")
    contexts = _strings(data, "context_options")
    return Question(tuple((context, continuation) for context in contexts), _label(data, "gold"))


def _hellaswag(data: Mapping[str, Any]) -> Question:
    context = f"{_string(data, 'ctx_a')} {_string(data, 'ctx_b').capitalize()}"
    query = _without_brackets(f"{_string(data, 'activity_label')}: {context}")
    return _answered(query, [_without_brackets(each) for each in _strings(data, "endings")], _label(data, "label"))


def _cloze(data: Mapping[str, Any]) -> Question:
    """One continuation, which is right if every token of it is the likeliest."""
    continuation = _string(data, "continuation")
    spaced = continuation if continuation[:1].isspace() else f" {continuation}"
    return Question(((_string(data, "context"), spaced),), 0)


LAYOUTS: Mapping[str, tuple[frozenset[str], Callable[[Mapping[str, Any]], Question]]] = {
    "multiple choice": (frozenset({"query", "choices", "gold"}), _choices),
    "options in the context": (frozenset({"context_options", "continuation", "gold"}), _options),
    "hellaswag": (frozenset({"activity_label", "ctx_a", "ctx_b", "endings", "label"}), _hellaswag),
    "cloze": (frozenset({"context", "continuation"}), _cloze),
}
"""Layouts by name: the keys that a line must have, and how it is read."""


def _answered(query: str, choices: list[str], gold: int) -> Question:
    if not all(choices):
        raise ValueError("an answer is empty")
    requests = tuple((query, f" {choice}") for choice in choices)
    return Question(requests, gold, tuple(len(choice) for choice in choices))


def _without_brackets(text: str) -> str:
    """What lm-evaluation-harness leaves of a text of WikiHow."""
    plain = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return plain.replace("  ", " ")


def _string(data: Mapping[str, Any], key: str) -> str:
    if not isinstance(data[key], str):
        raise ValueError(f"{key} is {short(data[key])}; expected a text")
    return str(data[key])


def _strings(data: Mapping[str, Any], key: str) -> list[str]:
    found = data[key]
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"{key} is {short(found)}; expected a list of texts")
    if not 2 <= len(found) <= MOST_CHOICES:
        raise ValueError(f"{key} has {len(found)} texts; expected 2 to {MOST_CHOICES}")
    return found


def _label(data: Mapping[str, Any], key: str) -> int:
    label = data[key]
    # HellaSwag as published has numbers or their digits.
    if isinstance(label, str) and re.fullmatch(r"\d{1,3}", label):
        return int(label)
    if not isinstance(label, int) or isinstance(label, bool):
        raise ValueError(f"{key} is {short(label)}; expected the number of an answer, counted from 0")
    return label

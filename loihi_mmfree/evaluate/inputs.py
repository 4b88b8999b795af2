"""What is evaluated on: a text cut into windows, or the items of a task, as tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.measures import (
    Accuracy,
    Answers,
    PairedAccuracy,
    PairedPerplexity,
    Perplexity,
    compare_task,
    compare_text,
    measure_task,
    measure_text,
)
from loihi_mmfree.evaluate.opening import Opened
from loihi_mmfree.evaluate.tasks import Task, read_task
from loihi_mmfree.evaluate.texts import Item, Windows
from loihi_mmfree.files import read_text
from loihi_mmfree.untrusted import some_of

LARGEST_TEXT_BYTES = 2**28
TEXT, TASK = "text", "task"
NO_BOS = "none is put in front; a window or an item starts with an empty state"


@dataclass(frozen=True)
class Input:
    """What is read, and how: the same for integers and float model.

    Parameters
    ----------
    kind : {"text", "task"}
    path : str
    protocol : mapping
        How it is read, for who reads the results.
    items : tuple of Item
    task : Task, optional
    notices : tuple of str
        What the user should know.
    """

    kind: str
    path: str
    protocol: Mapping[str, Any]
    items: tuple[Item, ...]
    task: Task | None = None
    notices: tuple[str, ...] = ()

    def measure(self, answers: Answers) -> Perplexity | Accuracy:
        """Return what the sums of every item's texts say of one model."""
        if self.task is None:
            return measure_text([window for (window,) in answers])
        return measure_task(self.task.questions, answers)

    def compare(self, answers: Answers) -> PairedPerplexity | PairedAccuracy:
        """Return what they say of the integers beside the float model."""
        if self.task is None:
            return compare_text([window for (window,) in answers])
        return compare_task(self.task.questions, answers)


Encode = Callable[[Opened], Input]
"""Makes of a file that was read what a model reads."""


def plain_text(path: Path, option: str) -> str:
    """Return a text as it is evaluated; `option` names the file in errors.

    Raises
    ------
    UsageError
        It cannot be read.
    """
    content = read_text(path, LARGEST_TEXT_BYTES, option).removeprefix("\ufeff")
    return content.replace("\r\n", "\n").replace("\r", "\n").replace("<unk>", "unk")


def read_text_file(path: Path, windows: Windows) -> Encode:
    """Read a text; a byte order mark is no part of it, and every end of line is a line feed.

    Raises
    ------
    UsageError
        It cannot be read; or, from what is returned, it is too short, or its tokens are not the model's.
    """
    plain = plain_text(path, "`text`")

    def encode(opened: Opened) -> Input:
        ids = opened.tokenizer.encode(plain, special_tokens=False)
        items = windows.cut(ids)
        check_vocabulary(items, opened.vocab_size)
        protocol = {
            "window": windows.window,
            "stride": windows.step,
            "limit": windows.limit,
            "bos": NO_BOS,
            "unk": "<unk> in the text is read as the word unk",
            "tokens_in_text": len(ids),
            "tokens_left_out": len(ids) - (len(items) - 1) * windows.step - len(items[0].texts[0].ids),
        }
        short = f"{path}: {len(ids)} tokens, less than a window of {windows.window}; all are one window"
        return Input(TEXT, str(path), protocol, items, notices=(short,) if len(ids) < windows.window else ())

    return encode


def read_task_file(path: Path, limit: int | None = None) -> Encode:
    """Read a task, at most so many items of it.

    Raises
    ------
    UsageError
        It cannot be used (`tasks.read_task`); or, from what is returned, its tokens are not the model's.
    """
    task = read_task(path, limit)
    protocol = {
        "layout": task.layout,
        "prompts": "as lm-evaluation-harness has them, no examples in front",
        "limit": limit,
        "bos": NO_BOS,
    }

    def encode(opened: Opened) -> Input:
        items = task.items(opened.tokenizer)
        check_vocabulary(items, opened.vocab_size)
        return Input(TASK, str(path), protocol, items, task)

    return encode


def check_vocabulary(items: Sequence[Item], vocab_size: int) -> None:
    """Refuse tokens that the model has not.

    Raises
    ------
    UsageError
    """
    texts = [text for item in items for text in item.texts]
    wrong = sorted({int(token) for text in texts for token in text.ids[text.ids >= vocab_size]})
    if wrong:
        raise UsageError(
            f"the tokenizer gives ids {some_of(map(str, wrong))}, which are outside of the model's vocabulary "
            f"0..{vocab_size - 1}; it is another model's"
        )

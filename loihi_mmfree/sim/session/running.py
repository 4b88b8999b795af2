"""Opening a run: the prompt as ids, the backend, who watches, and where logits go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.observer import NOBODY, Observer
from loihi_mmfree.checkpoint import as_tokens
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import replacing, require_output
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.backend import TakeLogits
from loihi_mmfree.sim.session.generate import TokenStream, check_ids, check_new_tokens
from loihi_mmfree.sim.session.logits_file import LogitsFile
from loihi_mmfree.sim.session.opening import Choice, open_backend
from loihi_mmfree.sim.session.sampling import Sampler
from loihi_mmfree.text import Tokenizer

Prompt = str | Sequence[int] | NDArray[np.int64]
"""Text, or token ids."""


def tokenizer_of(net: Net) -> Tokenizer | None:
    """Return the tokenizer of a network; None if its checkpoint had none."""
    return None if net.tokenizer_path is None else Tokenizer(net.tokenizer_path)


def prompt_ids(net: Net, tokenizer: Tokenizer | None, prompt: Prompt) -> NDArray[np.int64]:
    """Return a prompt as ids that the network can read.

    Raises
    ------
    UsageError
        It is empty, its ids are not in the vocabulary, or it is text and there is no tokenizer.
    """
    if not isinstance(prompt, str):
        return check_ids(prompt, net.vocab_size)
    if tokenizer is None:
        raise UsageError(
            f"{net.path} has no tokenizer.json, so a prompt cannot be text; give token ids (`prompt=[1, 2, 3]`)"
        )
    if not prompt:
        raise UsageError("the prompt is empty; give at least one character")
    return check_ids(tokenizer.encode(prompt), net.vocab_size)


def end_of_text(net: Net, stops: bool) -> tuple[int, ...]:
    """Return the tokens that end the network's texts, if generation stops there."""
    return as_tokens(net.manifest["model"].get("eos_token_id")) if stops else ()


def open_stream(
    net: Net,
    prompt: Prompt,
    new_tokens: int,
    choice: Choice,
    sampler: Sampler | None = None,
    stop_at_end_of_text: bool = True,
    observer: Observer = NOBODY,
    take: TakeLogits | None = None,
    keep_logits: bool = False,
) -> TokenStream:
    """Return a run that is about to begin; all that can be refused is refused before a backend is opened."""
    tokenizer, end = tokenizer_of(net), end_of_text(net, stop_at_end_of_text)
    ids = prompt_ids(net, tokenizer, prompt)
    check_new_tokens(new_tokens)
    opened = open_backend(net, choice, observer)
    return TokenStream(opened, ids, new_tokens, sampler or Sampler(), end, tokenizer, take, keep_logits)


@contextlib.contextmanager
def logits_file(path: str | Path | None, vocab_size: int) -> Iterator[LogitsFile | None]:
    """Give a file for logits, which appears when the block ends without an error; None without a path.

    Raises
    ------
    UsageError
        It cannot be written.
    """
    if path is None:
        yield None
        return
    require_output(Path(path), "logits_out")
    with replacing(Path(path), "logits_out") as file:
        yield LogitsFile(file, vocab_size)

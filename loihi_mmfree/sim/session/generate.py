"""A run: read a prompt, generate tokens, and account for every logit on the way."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.counts import Activity
from loihi_mmfree.errors import UsageError
from loihi_mmfree.sim.session.backend import Backend
from loihi_mmfree.sim.session.sampling import Sampler


@dataclass(frozen=True)
class RunResult:
    """What a run produced.

    Parameters
    ----------
    prompt_ids, new_ids : tuple of int
    logits : int32 array [T, V]
        After every position processed: the prompt and all new tokens but the last.
    logit_scale : float
        Real value of one unit.
    prefill_seconds, decode_seconds : float
        Time of the prompt, and of all tokens after the first.
    steps : int
        Time steps simulated.
    saturations, overflows : int
        Values clamped where that is meant, and values that did not fit, which must be none.
    activity : Activity, optional
        What was sent, if it was recorded.
    """

    prompt_ids: tuple[int, ...]
    new_ids: tuple[int, ...]
    logits: NDArray[np.int32]
    logit_scale: float
    prefill_seconds: float
    decode_seconds: float
    steps: int
    saturations: int
    overflows: int
    activity: Activity | None = None

    @property
    def logits_sha256(self) -> str:
        """SHA-256 of the int32 little-endian logits of every position processed, in order."""
        return hashlib.sha256(np.ascontiguousarray(self.logits, dtype="<i4").tobytes()).hexdigest()

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens that were read: row t of `logits` is after reading ids[t]."""
        return (*self.prompt_ids, *self.new_ids)[: len(self.logits)]

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prompt tokens read in a second."""
        return len(self.prompt_ids) / self.prefill_seconds

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens generated in a second after the first; none if there was at most one."""
        return (len(self.new_ids) - 1) / self.decode_seconds if len(self.new_ids) > 1 else None


def check_ids(ids: NDArray[np.int64], vocab_size: int) -> None:
    """Raise UsageError unless there is at least one id and all are in the vocabulary."""
    if ids.size == 0:
        raise UsageError("the prompt is empty; give at least one token")
    wrong = ids[(ids < 0) | (ids >= vocab_size)]
    if wrong.size:
        shown = ", ".join(map(str, wrong[:5]))
        raise UsageError(f"prompt: token ids {shown} are outside the vocabulary 0..{vocab_size - 1}")


def generate(
    backend: Backend,
    prompt_ids: NDArray[np.int64],
    new_tokens: int,
    sampler: Sampler,
    end_of_text: Collection[int] = (),
    on_token: Callable[[int], None] | None = None,
) -> RunResult:
    """Read a prompt and generate.

    Parameters
    ----------
    backend : Backend
        At the beginning of a sequence.
    prompt_ids : int64 array [P]
        Checked with `check_ids`.
    new_tokens : int
        At most so many; 0 only reads the prompt.
    sampler : Sampler
    end_of_text : collection of int
        Generation stops after any of these tokens.
    on_token : callable, optional
        Called with each new token as it is chosen.
    """
    if new_tokens < 0:
        raise UsageError(f"the number of new tokens is {new_tokens}; it must not be negative")
    before = time.perf_counter()
    logits = [backend.process(prompt_ids)]
    prefilled = time.perf_counter()
    new_ids: list[int] = []
    while len(new_ids) < new_tokens:
        if new_ids:
            logits.append(backend.process(np.array(new_ids[-1:], dtype=np.int64)))
        new_ids.append(sampler.choose(logits[-1][-1], backend.logit_scale))
        if on_token is not None:
            on_token(new_ids[-1])
        if new_ids[-1] in end_of_text:
            break
    finished = time.perf_counter()
    counters = backend.counters
    return RunResult(
        prompt_ids=tuple(int(each) for each in prompt_ids),
        new_ids=tuple(new_ids),
        logits=np.concatenate(logits),
        logit_scale=backend.logit_scale,
        prefill_seconds=prefilled - before,
        decode_seconds=finished - prefilled,
        steps=backend.steps,
        saturations=counters.saturations,
        overflows=counters.overflows,
    )

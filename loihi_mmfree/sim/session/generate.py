"""A run: read a prompt, generate tokens, and account for every logit on the way. Only ids and text are kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.counts import Activity
from loihi_mmfree.errors import SimulationError, UsageError
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.sim.backend import Backend, Closable, TakeLogits
from loihi_mmfree.sim.session.sampling import Sampler
from loihi_mmfree.text import TextStream, Tokenizer

_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Token:
    """A token that was generated.

    Parameters
    ----------
    id : int
    text : str, optional
        What it adds to the text; empty where a character is not complete yet. None without a tokenizer.
    """

    id: int
    text: str | None


@dataclass(frozen=True)
class RunResult:
    """What a run produced.

    Parameters
    ----------
    prompt_ids, new_ids : tuple of int
    text : str, optional
        Of the new tokens: with the prompt's in front, what the tokenizer makes of all. None without a tokenizer.
    logits_sha256 : str
        SHA-256 of the int32 little-endian logits of every position processed, in order: the prompt and all new
        tokens but the last.
    logit_scale : float
        Real value of one unit of a logit.
    prefill_seconds, decode_seconds : float
        Time of the prompt, and of all tokens after the first; without what was done with the tokens.
    steps : int
        Time steps simulated; the engine, which has none, counts one for a token.
    saturations, overflows : int
        Values clamped where that is meant, and values that did not fit, which must be none.
    cycles : int, optional
        Clock cycles of simulated hardware, all tokens together; None for a backend without a clock.
    logits : int32 array [T, V], optional
        Of those positions, if asked for.
    activity : Activity, optional
        What was sent, if it was recorded.
    """

    prompt_ids: tuple[int, ...]
    new_ids: tuple[int, ...]
    text: str | None
    logits_sha256: str
    logit_scale: float
    prefill_seconds: float
    decode_seconds: float
    steps: int
    saturations: int
    overflows: int
    cycles: int | None = None
    logits: NDArray[np.int32] | None = field(default=None, compare=False)
    activity: Activity | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens that were read: row t of the logits is after reading ids[t]."""
        return (*self.prompt_ids, *self.new_ids[:-1])

    @property
    def cycles_per_token(self) -> float | None:
        """Clock cycles of a token that was read, in the mean."""
        return None if self.cycles is None else self.cycles / len(self.ids)

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prompt tokens read in a second."""
        return len(self.prompt_ids) / self.prefill_seconds

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens generated in a second after the first; none if there was at most one."""
        return (len(self.new_ids) - 1) / self.decode_seconds if len(self.new_ids) > 1 else None

    def __repr__(self) -> str:
        said = f"ids {self.new_ids[:8]}" if self.text is None else repr(self.text)
        if len(said) > _SHOWN_CHARACTERS:
            said = f"{said[:_SHOWN_CHARACTERS]}…"
        return (
            f"<RunResult: {len(self.prompt_ids)} prompt and {len(self.new_ids)} new tokens, {said}, "
            f"logits_sha256 {self.logits_sha256[:12]}…, {self.overflows} overflows>"
        )


def check_ids(ids: Sequence[int] | NDArray[np.int64], vocab_size: int) -> NDArray[np.int64]:
    """Return ids as an array, if there is at least one and all are in the vocabulary.

    Raises
    ------
    UsageError
    """
    if len(ids) == 0:
        raise UsageError("the prompt is empty; give at least one token")
    try:
        found = np.asarray(ids, dtype=np.int64).reshape(-1)
    except OverflowError:
        # Numbers of any size, so that those which no array holds can be named.
        wrong = [each for each in ids if not 0 <= each < vocab_size]
    else:
        wrong = found[(found < 0) | (found >= vocab_size)].tolist()
    if wrong:
        shown = ", ".join(map(str, wrong[:5]))
        raise UsageError(f"prompt: token ids {shown} are outside the vocabulary 0..{vocab_size - 1}")
    return found


def check_new_tokens(new_tokens: int) -> None:
    """Refuse a number of tokens that is none.

    Raises
    ------
    UsageError
    """
    if new_tokens < 0:
        raise UsageError(f"the number of new tokens is {new_tokens}; it must not be negative")


class TokenStream(Closable, Iterator[Token]):
    """A run that gives its tokens as they come; the prompt is read when the first is asked for.

    A context manager. Its end, an error or an interrupt releases all that the run holds.

    Parameters
    ----------
    backend : Backend
        At the beginning of a sequence; closed with the stream.
    prompt_ids : int64 array [P]
        Checked with `check_ids`.
    new_tokens : int
        At most so many; 0 only reads the prompt.
    sampler : Sampler
    end_of_text : collection of int
        Generation stops after any of these tokens.
    tokenizer : Tokenizer, optional
        Makes their text.
    take : callable, optional
        Is given the logits of every position in pieces [t, V].
    keep_logits : bool
        Hold all of them for the result.
    """

    _closed = True

    def __init__(
        self,
        backend: Backend,
        prompt_ids: NDArray[np.int64],
        new_tokens: int,
        sampler: Sampler,
        end_of_text: Collection[int] = (),
        tokenizer: Tokenizer | None = None,
        take: TakeLogits | None = None,
        keep_logits: bool = False,
    ) -> None:
        self._backend, self._prompt, self._sampler = backend, prompt_ids, sampler
        self._new_tokens, self._end_of_text, self._tokenizer = new_tokens, end_of_text, tokenizer
        self._passed_on = take
        self._digest = hashlib.sha256()
        self._kept = bytearray() if keep_logits else None
        self._new_ids: list[int] = []
        self._text: list[str] = []
        self._prefill_seconds = self._decode_seconds = 0.0
        self._ended: tuple[int, Counters, int | None] | None = None
        self._tokens = self._generate()
        self._closed = False

    def __iter__(self) -> TokenStream:
        return self

    def __next__(self) -> Token:
        try:
            return next(self._tokens)
        except StopIteration:
            self.close()
            raise
        except BaseException:
            self._release()
            raise

    def __del__(self) -> None:
        if not self._closed:
            self._release()

    def close(self) -> None:
        """End the run and release all that it holds. Does nothing the second time."""
        if self._closed:
            return
        try:
            # What the backend forgets when it is closed.
            self._ended = self._backend.steps, self._backend.counters, self._backend.cycles
        finally:
            self._release()

    def finish(self, on_token: Callable[[Token], None] | None = None) -> RunResult:
        """Run to the end and return what came of it.

        Parameters
        ----------
        on_token : callable, optional
            Called with each token as it comes.
        """
        with self:
            for token in self:
                if on_token is not None:
                    on_token(token)
        return self.result()

    def result(self) -> RunResult:
        """Return what came of the run; one that still goes on is ended.

        Raises
        ------
        SimulationError
            The run had failed.
        """
        self.close()
        if self._ended is None:
            raise SimulationError("the run failed and has no result; begin another")
        steps, counters, cycles = self._ended
        return RunResult(
            prompt_ids=tuple(self._prompt.tolist()),
            new_ids=tuple(self._new_ids),
            text=None if self._tokenizer is None else "".join(self._text),
            logits_sha256=self._digest.hexdigest(),
            logit_scale=self._backend.logit_scale,
            prefill_seconds=self._prefill_seconds,
            decode_seconds=self._decode_seconds,
            steps=steps,
            saturations=counters.saturations,
            overflows=counters.overflows,
            cycles=cycles,
            logits=self._logits(),
        )

    def _release(self) -> None:
        self._closed = True
        self._tokens.close()
        self._backend.close()

    def _generate(self) -> Generator[Token, None, None]:
        began = time.perf_counter()
        logits = self._backend.read(self._prompt, self._take)
        self._prefill_seconds = time.perf_counter() - began
        shown = None if self._tokenizer is None else TextStream(self._tokenizer, self._prompt.tolist())
        while len(self._new_ids) < self._new_tokens:
            began = time.perf_counter()
            if self._new_ids:
                logits = self._backend.read(np.array(self._new_ids[-1:], dtype=np.int64), self._take)
            token = self._sampler.choose(logits, self._backend.logit_scale)
            self._decode_seconds += time.perf_counter() - began
            self._new_ids.append(token)
            last = token in self._end_of_text or len(self._new_ids) == self._new_tokens
            text = None if shown is None else shown.push(token) + (shown.finish() if last else "")
            self._text.append(text or "")
            yield Token(token, text)
            if last:
                return

    def _take(self, logits: NDArray[np.int32]) -> None:
        content = np.ascontiguousarray(logits, dtype="<i4").data.cast("B")
        self._digest.update(content)
        if self._kept is not None:
            self._kept += content
        if self._passed_on is not None:
            self._passed_on(logits)

    def _logits(self) -> NDArray[np.int32] | None:
        """All that were kept; the array and the stream share them."""
        if not self._kept:
            return None
        return np.frombuffer(self._kept, dtype="<i4").reshape(len(self._prompt) + len(self._new_ids[1:]), -1)

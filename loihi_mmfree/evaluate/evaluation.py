"""An evaluation from beginning to end, and its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.inputs import TEXT, Input
from loihi_mmfree.evaluate.measures import Accuracy, PairedAccuracy, PairedPerplexity, Perplexity
from loihi_mmfree.evaluate.opening import Model, Opened
from loihi_mmfree.evaluate.records import Sums
from loihi_mmfree.evaluate.results import Found, Results, Share, batches
from loihi_mmfree.evaluate.statistics import CONFIDENCE, RESAMPLES, SEED
from loihi_mmfree.evaluate.texts import tokens_sha256
from loihi_mmfree.progress import Progress


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What an evaluation found.

    Parameters
    ----------
    model : Model
    reference : Model, optional
        The float model beside a network's integers.
    kind : {"text", "task"}
    path : str
        Of the text or the task.
    protocol : mapping
        How it was read.
    measure : Perplexity or Accuracy
        Of `model`.
    reference_measure : the same, optional
        Of `reference`.
    paired : PairedPerplexity or PairedAccuracy, optional
    saturations, overflows : int
        Of the integers; 0 for a float model.
    seconds : float
        That this call took, without what it read back.
    tokens_per_s : float or None
        Tokens read a second in this call; None if everything was read back.
    """

    model: Model
    reference: Model | None
    kind: str
    path: str
    protocol: Mapping[str, Any]
    measure: Perplexity | Accuracy
    reference_measure: Perplexity | Accuracy | None
    paired: PairedPerplexity | PairedAccuracy | None
    saturations: int
    overflows: int
    seconds: float
    tokens_per_s: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document: `perplexity` or `accuracy` and what goes with them are at its top."""
        reference = None if self.reference_measure is None else asdict(self.reference_measure)
        return {
            "kind": self.kind,
            "path": self.path,
            "protocol": dict(self.protocol),
            "model": asdict(self.model),
            **asdict(self.measure),
            "saturations": self.saturations,
            "overflows": self.overflows,
            "reference": None
            if self.reference is None
            else {"model": asdict(self.reference), **(reference or {})},
            "paired": None if self.paired is None else asdict(self.paired),
            "intervals": {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED},
            "seconds": self.seconds,
            "tokens_per_s": self.tokens_per_s,
        }


def evaluate(
    opened: Opened,
    given: Input,
    results: Path | None = None,
    batch: int | None = None,
    share: Share | None = None,
    progress: Progress = lambda stage, done, total: None,
    notify: Callable[[str], None] = lambda notice: None,
) -> Evaluation | None:
    """Score every item that is not known yet.

    Parameters
    ----------
    opened : Opened
    given : Input
    results : Path, optional
        Where what is found is kept, and what is there is read back.
    batch : int, optional
        Items at once; changes no number.
    share : Share, optional
        Of this process; by default what RANK and WORLD_SIZE say.
    progress, notify : callable
        Called with stage, done, total; and with what the user should know.

    Returns
    -------
    Evaluation, optional
        None if other processes have still to end, or show it.

    Raises
    ------
    UsageError
        `batch` is no number of items, or `results` cannot be used.
    """
    size = opened.scorer.together if batch is None else batch
    if size < 1:
        raise UsageError(f"`batch={size}`: at least 1 item")
    kept = Results(results, _header(opened, given), given.items, share or Share.of_environment())
    began = time.perf_counter()
    try:
        tokens = _score_all(opened, given, kept, size, progress, notify)
        found = kept.finish()
    finally:
        kept.close()
    if found is None:
        return None
    return _evaluation(opened, given, found, time.perf_counter() - began, tokens)


def _header(opened: Opened, given: Input) -> dict[str, Any]:
    """What tells this evaluation from others: nothing that changes no number."""
    return {
        "model": opened.model.identity,
        "reference": None if opened.reference is None else opened.reference.identity,
        **{name: given.protocol[name] for name in ("window", "stride", "layout") if name in given.protocol},
        "tokens_sha256": tokens_sha256(given.items),
    }


def _score_all(
    opened: Opened,
    given: Input,
    kept: Results,
    size: int,
    progress: Progress,
    notify: Callable[[str], None],
) -> int:
    """Score what is left of this process's items, and return how many tokens were read."""
    scorer, left, tokens = opened.scorer, kept.left, 0
    stage, total = "windows" if given.kind == TEXT else "items", kept.mine
    done = total - len(left)
    progress(stage, done, total)
    for numbers in batches(left, size):
        texts = [text for number in numbers for text in given.items[number].texts]
        before, most = scorer.counters, scorer.most
        scores = iter(scorer.score(texts))
        if scorer.most != most:
            notify(f"the GPU's memory is too small for {len(texts)} texts at once: {scorer.most} from now on")
        sums = {number: tuple(Sums.of(next(scores)) for _ in given.items[number].texts) for number in numbers}
        kept.append(sums, scorer.counters.since(before))
        tokens += sum(len(text.ids) - 1 for text in texts)
        done += len(numbers)
        progress(stage, done, total)
    return tokens


def _evaluation(opened: Opened, given: Input, found: Found, seconds: float, tokens: int) -> Evaluation:
    answers = [found.sums[number] for number in range(len(given.items))]
    paired = opened.reference is not None
    beside = [tuple(text.reference for text in texts) for texts in answers] if paired else None
    return Evaluation(
        model=opened.model,
        reference=opened.reference,
        kind=given.kind,
        path=given.path,
        protocol=given.protocol,
        measure=given.measure(answers),
        reference_measure=None if beside is None else given.measure(beside),
        paired=given.compare(answers) if paired else None,
        saturations=found.counters.saturations,
        overflows=found.counters.overflows,
        seconds=seconds,
        tokens_per_s=tokens / seconds if tokens else None,
    )

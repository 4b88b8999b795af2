"""What formats do to a model: its integers, lowered anew, beside its float model on a text."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.bounds import bound_violations
from loihi_mmfree.compiler.pipeline import run_passes
from loihi_mmfree.evaluate.measures import mean_difference
from loihi_mmfree.evaluate.opening import float_reader, graph_reader
from loihi_mmfree.evaluate.scorer import ReadingScorer, TextScore
from loihi_mmfree.evaluate.statistics import Interval
from loihi_mmfree.evaluate.texts import Item
from loihi_mmfree.loihi2.hardware import ChipSpec
from loihi_mmfree.progress import Progress
from loihi_mmfree.quantize.calibration import Observed
from loihi_mmfree.sim.session.opening import Choice, prepare


@dataclass(frozen=True)
class Verdict:
    """What some formats do.

    Parameters
    ----------
    relative : float
        Perplexity of the integers over that of the float model, less 1; not a number where there are no integers.
    interval : pair of float
        Of that, of 95 %, by resampling windows.
    top1_agreement : float
        Share of the tokens of which both have the same likeliest one.
    refusal : str
        Why no network can have these formats; empty if one can.
    """

    relative: float
    interval: Interval
    top1_agreement: float
    refusal: str = ""

    @classmethod
    def refused(cls, why: str) -> Verdict:
        """Return that of formats that no network can have."""
        return cls(math.nan, (math.nan, math.nan), math.nan, why)

    def keeps(self, budget: float) -> bool:
        """Whether the budget is kept, by the upper end of the interval."""
        return self.interval[1] <= budget


class Judge:
    """Judges formats by the integers that they give.

    The float model reads the texts once; ternary codes are those of the calibration.

    Parameters
    ----------
    checkpoint : Checkpoint
    observed : Observed
        What the calibration text brought to every site.
    chip : ChipSpec
    items : sequence of Item
        Windows of a text that was not calibrated on.
    choice : Choice
        What runs the integers, a backend of `evaluate.opening.GRAPH_BACKENDS`.
    progress : callable
        Called while the float model reads.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        observed: Observed,
        chip: ChipSpec,
        items: Sequence[Item],
        choice: Choice,
        progress: Progress,
    ) -> None:
        self.observed = observed
        self._checkpoint, self._chip, self._choice = checkpoint, chip, choice
        self._texts = [text for item in items for text in item.texts]
        prepare(choice)
        reader, _ = float_reader(checkpoint, choice)
        with contextlib.closing(ReadingScorer(reader)) as scorer:
            self._expected = self._score(scorer, functools.partial(progress, "float model"))

    def judge(self, bits: Mapping[str, int]) -> Verdict:
        """Return what formats of these widths, by site, do.

        Raises
        ------
        CheckpointError
            A site saw values that are not finite.
        """
        calibration = self.observed.calibration(bits)
        graph = run_passes(
            self._checkpoint,
            calibration.formats,
            self._chip,
            thresholds=calibration.thresholds,
            projections=calibration.projections,
        )
        violations = bound_violations(graph)
        if violations:
            return Verdict.refused(str(violations[0]))
        reader, _ = graph_reader(graph, self._choice)
        with contextlib.closing(ReadingScorer(reader)) as scorer:
            found = self._score(scorer)
        pairs = list(zip(found, self._expected, strict=True))
        tokens = [len(each.targets) for each in found]
        differences = [math.fsum(mine.rows.losses - other.rows.losses) for mine, other in pairs]
        mean, (low, high) = mean_difference(differences, tokens)
        same = sum(int((mine.rows.top == other.rows.top).sum()) for mine, other in pairs)
        return Verdict(math.expm1(mean), (math.expm1(low), math.expm1(high)), same / sum(tokens))

    def _score(self, scorer: ReadingScorer, progress: functools.partial[None] | None = None) -> list[TextScore]:
        found: list[TextScore] = []
        for begin in range(0, len(self._texts), scorer.together):
            found += scorer.score(self._texts[begin : begin + scorer.together])
            if progress is not None:
                progress(len(found), len(self._texts))
        return found

"""A search for narrow formats as a table for a terminal."""

from __future__ import annotations

from loihi_mmfree.evaluate.statistics import CONFIDENCE
from loihi_mmfree.report.tables import TerminalTable
from loihi_mmfree.search.judge import Verdict
from loihi_mmfree.search.narrowing import Narrowing, Trial
from loihi_mmfree.text import counted

_COLUMNS = (
    "",
    "what was tried",
    "bits of an input, in the mean",
    "perplexity against float",
    f"{CONFIDENCE:.0%} interval",
    "same likeliest token",
    "",
)


def narrowing_table(found: Narrowing) -> TerminalTable:
    """Return every trial of a search."""
    text = f"{found.text}: {counted(found.windows, 'window')}, {counted(found.tokens, 'predicted token')}"
    title = f"Formats within {found.budget:+.3%} of the float model's perplexity, on {text}"
    return TerminalTable(title, _COLUMNS, tuple(map(_row, found.trials)))


def _row(trial: Trial) -> tuple[str, ...]:
    """Return a trial as text."""
    return str(trial.number), trial.what, f"{trial.mean_input_bits:.2f}", *_numbers(trial.verdict), trial.end


def narrowing_notes(found: Narrowing) -> list[str]:
    """Return how it was judged."""
    how = (
        "A budget is kept where the upper end of the interval keeps it; a longer text makes it narrower. "
        "The text has chosen these formats; on another one they may do otherwise, which an evaluation tells. "
        f"Judged by the integers, computed by: {found.computed_by}."
    )
    if found.complete:
        return [how]
    return [how, f"The search ended after {counted(len(found.trials), 'trial')}; more may find narrower formats."]


def _numbers(verdict: Verdict) -> tuple[str, str, str]:
    if verdict.refusal:
        return "-", "-", "-"
    low, high = verdict.interval
    return f"{verdict.relative:+.3%}", f"{low:+.3%} to {high:+.3%}", f"{verdict.top1_agreement:.2%}"

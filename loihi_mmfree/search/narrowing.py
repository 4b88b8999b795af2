"""The narrowest formats that keep a budget: one step narrower at a time, as long as the integers keep it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.errors import UsageError
from loihi_mmfree.quantize.config import INPUT, LIMITS
from loihi_mmfree.search.groups import SiteGroup, with_widths
from loihi_mmfree.search.judge import Verdict

LARGEST_BUDGET = 1.0
"""Perplexity twice that of the float model."""


@dataclass(frozen=True)
class Budget:
    """What a search may lose, and how long it may take.

    Parameters
    ----------
    relative : float
        Highest perplexity of the integers over that of the float model, less 1.
    trials : int
        Formats that are tried, at most.

    Raises
    ------
    UsageError
        These are no such numbers.
    """

    relative: float
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.relative <= LARGEST_BUDGET:
            raise UsageError(
                f"`budget={self.relative:g}`: a share of perplexity, 0 to {LARGEST_BUDGET:g}; 0.002 is 0.2 percent"
            )
        if self.trials < 1:
            raise UsageError(f"`budget_trials={self.trials}`: at least 1")


class Judging(Protocol):
    """What says what some widths do: `judge.Judge`, or one that remembers."""

    def judge(self, bits: Mapping[str, int]) -> Verdict:
        """Return what formats of these widths, by site, do."""


@dataclass(frozen=True)
class Trial:
    """Some widths that were tried.

    Parameters
    ----------
    number : int
        From 1 on.
    what : str
        What was narrowed, and to which width.
    verdict : Verdict
    kept : bool
        Whether the budget was kept, so that the next trials start from there.
    mean_input_bits : float
        Over the inputs of projections, each site counted once.
    config : CompileConfig
        What compiles to the network that was judged.
    """

    number: int
    what: str
    verdict: Verdict
    kept: bool
    mean_input_bits: float
    config: CompileConfig

    def __str__(self) -> str:
        low, high = self.verdict.interval
        numbers = f"{self.verdict.relative:+.3%} ({low:+.3%} to {high:+.3%}), "
        return f"trial {self.number}: {self.what}: {'' if self.verdict.refusal else numbers}{self.end}"

    @property
    def end(self) -> str:
        """How it ended, in words."""
        return "kept" if self.kept else self.verdict.refusal or "not kept"


@dataclass(frozen=True, repr=False)
class Narrowing:
    """What a search found.

    Parameters
    ----------
    budget : float
        Highest relative perplexity, less 1.
    trials : tuple of Trial
    text : str
        What was judged on.
    windows, tokens : int
        Of it, the latter predicted.
    computed_by : str
        What ran the integers.
    complete : bool
        Whether every group of sites was tried; else the number of trials ended the search.
    """

    budget: float
    trials: tuple[Trial, ...]
    text: str
    windows: int
    tokens: int
    computed_by: str
    complete: bool

    @property
    def found(self) -> Trial:
        """The last trial that kept the budget: the narrowest formats found."""
        return next(each for each in reversed(self.trials) if each.kept)

    @property
    def config(self) -> CompileConfig:
        """Compiling with it gives the network that was judged."""
        return self.found.config

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "budget": self.budget,
            "found": _document(self.found),
            "text": self.text,
            "windows": self.windows,
            "tokens": self.tokens,
            "computed_by": self.computed_by,
            "complete": self.complete,
            "quantization": self.config.quantization.to_dict(),
            "trials": [_document(each) for each in self.trials],
        }


def _document(trial: Trial) -> dict[str, Any]:
    verdict, judged = trial.verdict, not trial.verdict.refusal
    return {
        "number": trial.number,
        "what": trial.what,
        "mean_input_bits": trial.mean_input_bits,
        "relative": verdict.relative if judged else None,
        "relative_interval": list(verdict.interval) if judged else None,
        "top1_agreement": verdict.top1_agreement if judged else None,
        "refusal": verdict.refusal or None,
        "kept": trial.kept,
    }


class Search:
    """Narrows widths as long as a budget is kept, and notes every trial.

    Parameters
    ----------
    judge : Judging
    config : CompileConfig
    bits : mapping of str to int
        The widths that the settings give, by site: where to start.
    budget : Budget
    on_trial : callable
        Called with each trial.
    """

    def __init__(
        self,
        judge: Judging,
        config: CompileConfig,
        bits: Mapping[str, int],
        budget: Budget,
        on_trial: Callable[[Trial], None] = lambda trial: None,
    ) -> None:
        self.bits = dict(bits)
        self.trials: list[Trial] = []
        self._judge, self._budget, self._on_trial = judge, budget, on_trial
        self._config, self._given = config, dict(bits)

    @property
    def spent(self) -> bool:
        """Whether there are no more trials."""
        return len(self.trials) >= self._budget.trials

    def run(self, inputs: list[SiteGroup], others: list[SiteGroup]) -> bool:
        """Search, first all inputs of projections alike, then group by group; return whether all were tried.

        Raises
        ------
        UsageError
            The widths to start from do not keep the budget.
        """
        self._try("as given", self.bits)
        if not self.trials[0].kept:
            raise UsageError(_out_of_reach(self.trials[0].verdict, self._budget.relative))
        self._narrow_alike(inputs)
        return self._narrow_groups([*inputs, *others])

    def _narrow_alike(self, inputs: list[SiteGroup]) -> None:
        """Find the least width that all inputs can have, by halving."""
        sites = [site for group in inputs for site in group.sites]
        least, kept = LIMITS["activation_bits"][0], max(self.bits[site] for site in sites)
        while least < kept and not self.spent:
            width = (least + kept) // 2
            narrowed = {**self.bits, **{site: min(self.bits[site], width) for site in sites}}
            if self._try(f"*{INPUT} to {width} bits", narrowed):
                kept = width
            else:
                least = width + 1

    def _narrow_groups(self, groups: list[SiteGroup]) -> bool:
        """Narrow one group after the other by a step; of what cannot be narrowed as a whole, its halves later."""
        waiting = deque(groups)
        while waiting and not self.spent:
            group = waiting.popleft()
            narrowed = group.narrowed(self.bits)
            if narrowed is None:
                continue
            if self._try(_step_text(group, narrowed), narrowed):
                waiting.append(group)
            else:
                waiting.extend(group.halves())
        return not any(group.narrowed(self.bits) for group in waiting)

    def _try(self, what: str, bits: Mapping[str, int]) -> bool:
        verdict = self._judge.judge(bits)
        kept = verdict.keeps(self._budget.relative)
        inputs = [width for site, width in bits.items() if site.endswith(INPUT)]
        config = narrowed_config(self._config, self._given, bits)
        trial = Trial(len(self.trials) + 1, what, verdict, kept, sum(inputs) / len(inputs), config)
        self.trials.append(trial)
        if kept:
            self.bits = dict(bits)
        self._on_trial(trial)
        return kept


def narrowed_config(config: CompileConfig, before: Mapping[str, int], after: Mapping[str, int]) -> CompileConfig:
    """Return settings that give every site a width of its own; `before` is what `config` gives."""
    rules = with_widths(config.quantization, before, after)
    return replace(config, quantization=replace(config.quantization, sites=rules))


def _step_text(group: SiteGroup, bits: Mapping[str, int]) -> str:
    widths = sorted({bits[site] for site in group.sites})
    return f"{group.name} to {' and '.join(map(str, widths))} bits"


def _out_of_reach(verdict: Verdict, budget: float) -> str:
    if verdict.refusal:
        return f"`budget={budget:g}`: the formats to start from are refused: {verdict.refusal}"
    low, high = verdict.interval
    reason = (
        "the text is too short to tell; give a longer `budget_text`"
        if verdict.relative <= budget
        else "start from wider ones (`activation_bits=16`), or allow more"
    )
    return (
        f"`budget={budget:g}`: cannot be kept: the formats to start from, the widest, come to "
        f"{verdict.relative:+.3%} of perplexity ({low:+.3%} to {high:+.3%}), allowed {budget:+.3%}; {reason}"
    )

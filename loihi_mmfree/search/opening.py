"""From paths and settings to a search: what is calibrated on, what is judged on, and what runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from loihi_mmfree import defaults
from loihi_mmfree.checkpoint import Checkpoint, open_checkpoint
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.inputs import check_vocabulary, plain_text
from loihi_mmfree.evaluate.opening import choose
from loihi_mmfree.evaluate.texts import Item, Text, Windows
from loihi_mmfree.loihi2.hardware import load_system
from loihi_mmfree.memory import out_of_memory, require_torch
from loihi_mmfree.progress import Progress
from loihi_mmfree.quantize.calibration import observe
from loihi_mmfree.quantize.calibration_ids import CalibrationIds, calibration_ids
from loihi_mmfree.search.groups import input_groups, other_groups
from loihi_mmfree.search.judge import Judge
from loihi_mmfree.search.narrowing import Budget, Narrowing, Search, Trial
from loihi_mmfree.text import Tokenizer

FEWEST_TOKENS = 1000
"""Of a text that is judged on; fewer say nothing of a fifth of a percent."""
MEMORY_ADVICE = "end other programs, judge on fewer windows, or search on a machine with more"


def narrow(
    source: str | Path,
    config: CompileConfig,
    budget: Budget,
    calibration: CalibrationIds | None = None,
    text: Path | None = None,
    windows: int = defaults.BUDGET_WINDOWS,
    device: str | None = None,
    progress: Progress = lambda stage, done, total: None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Narrowing:
    """Find the narrowest formats whose integers keep a budget of perplexity.

    Parameters
    ----------
    source : str or Path
        A checkpoint, as `compile` takes it.
    config : CompileConfig
        Where to start: no site becomes wider.
    budget : Budget
    calibration : CalibrationIds, optional
        What to calibrate on; by default the text that the package carries.
    text : Path, optional
        What to judge on; by default what lies between the windows that are calibrated on.
    windows : int
        Of `text`, at most, spread over it.
    device : str, optional
        Where the integers run, as for `evaluate`; the calibration computes there only if it is named.
    progress, on_trial : callable
        Called with stage, done and total; and with every trial.

    Raises
    ------
    UsageError
        The widest formats do not keep the budget, or there is too little text.
    """
    require_torch()
    with out_of_memory(f"narrow {source}", MEMORY_ADVICE):
        checkpoint = open_checkpoint(source, config.ternary_scale)
        vocabulary = checkpoint.config.vocab_size
        ids = calibration or calibration_ids(checkpoint.tokenizer_path, vocabulary, config.calibration_tokens)
        items = _between(ids) if text is None else _spread(text, checkpoint, windows)
        choice = choose(None, device)
        place = "cpu" if device is None else choice.device or "cpu"
        observed = observe(checkpoint, ids.ids, config.quantization, partial(progress, "calibrate"), place)
        judge = Judge(checkpoint, observed, load_system(config.chip), items, choice, progress)
        done = 0

        def note(trial: Trial) -> None:
            nonlocal done
            done += 1
            progress("trials", done, budget.trials)
            on_trial(trial)

        search = Search(judge, config, observed.bits, budget, note)
        sites = list(observed.scalings)
        complete = search.run(input_groups(sites, checkpoint.config), other_groups(sites))
    return Narrowing(
        budget=budget.relative,
        trials=tuple(search.trials),
        text=f"what {ids.source} leaves" if text is None else str(text),
        windows=len(items),
        tokens=sum(each.predicted for item in items for each in item.texts),
        computed_by=str(choice),
        complete=complete,
    )


def _between(ids: CalibrationIds) -> list[Item]:
    """What of a text was not calibrated on, a window for each gap."""
    items = [Item((Text(piece),)) for piece in ids.between if len(piece) > 1]
    _require_tokens(items, f"the {ids.source} that formats are calibrated on leaves")
    return items


def _spread(path: Path, checkpoint: Checkpoint, most: int) -> Sequence[Item]:
    """Windows of a text, spread evenly over it."""
    if checkpoint.tokenizer_path is None:
        raise UsageError("`budget_text`: there is no tokenizer.json or tokenizer.model to read the text with")
    if most < 1:
        raise UsageError(f"`budget_windows={most}`: at least 1")
    ids = Tokenizer(checkpoint.tokenizer_path).encode(plain_text(path, "`budget_text`"), special_tokens=False)
    items = Windows().cut(ids)
    check_vocabulary(items, checkpoint.config.vocab_size)
    if len(items) > most:
        items = tuple(items[number] for number in np.linspace(0, len(items) - 1, most).round().astype(int))
    _require_tokens(items, f"{path} gives")
    return items


def _require_tokens(items: Sequence[Item], what: str) -> None:
    tokens = sum(each.predicted for item in items for each in item.texts)
    if tokens < FEWEST_TOKENS:
        raise UsageError(
            f"{what} {tokens} tokens to judge a budget on; at least {FEWEST_TOKENS} are needed: give "
            "a `budget_text` of a few pages"
        )

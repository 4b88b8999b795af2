"""How good a model is, on a text or a task."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from loihi_mmfree import defaults
from loihi_mmfree.errors import Notice, UsageError
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.progress import Progress, watched_progress

if TYPE_CHECKING:
    from loihi_mmfree.report.shown import EvaluationReport


def evaluate(
    model: Net | str | Path,
    *,
    text: str | Path | None = None,
    task: str | Path | None = None,
    checkpoint: str | Path | None = None,
    window: int = defaults.WINDOW,
    stride: int | None = None,
    limit: int | None = None,
    backend: str | None = None,
    device: str | None = None,
    batch: int | None = None,
    results: str | Path | None = None,
    progress: Progress | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> EvaluationReport | None:
    """Say how good a model is on a text or a task: a network by its integers, a checkpoint by its float model.

    Parameters
    ----------
    model : Net, str or Path
        A compiled network, or a checkpoint as `compile` takes it.
    text : str or Path, optional
        A text file, for perplexity.
    task : str or Path, optional
        A file of JSON lines, for accuracy.
    checkpoint : str or Path, optional
        What the network was compiled from: its float model reads the same, and both are compared token by token.
    window, stride : int
        How a text is cut; windows follow each other without overlap by default.
    limit : int, optional
        Most windows or items; all by default.
    backend : {"engine", "torch", "sim", "loihi2"}, optional
        What runs a network. By default torch where there is a GPU, else the engine.
    device : str, optional
        Where PyTorch computes, "cuda" or "cpu"; by default a GPU if there is one.
    batch : int, optional
        Windows or items at once; changes no number.
    results : str or Path, optional
        Where what is found is kept as it comes: begun again, an evaluation goes on where it was interrupted. With
        RANK and WORLD_SIZE set, every process does its share, and they join here.
    progress : callable, optional
        Called with a stage, how much is done, and how much there is. By default shown to whom watches.
    on_notice : callable, optional
        Called with what the user should know. By default a `Notice` is warned of.

    Returns
    -------
    EvaluationReport, optional
        None where other processes have still to end, or have shown the result.

    Raises
    ------
    UsageError
        Models, files or options do not go together.
    BackendUnavailableError
        There is no such backend or device here.
    """
    from loihi_mmfree.evaluate.evaluation import evaluate as score
    from loihi_mmfree.evaluate.inputs import read_task_file, read_text_file
    from loihi_mmfree.evaluate.opening import open_model
    from loihi_mmfree.evaluate.texts import Windows
    from loihi_mmfree.report.shown import EvaluationReport

    windows = Windows(window, stride, limit)
    if text is not None and task is None:
        encode = read_text_file(Path(text), windows)
    elif task is not None and text is None and windows == Windows(limit=limit):
        encode = read_task_file(Path(task), limit)
    else:
        raise UsageError("give either `text=FILE`, which `window` and `stride` cut, or `task=FILE`")
    kept = None if results is None else Path(results)
    notify = on_notice or (lambda notice: warnings.warn(notice, Notice, stacklevel=2))
    with contextlib.closing(open_model(model, checkpoint, backend, device)) as opened:
        given = encode(opened)
        for notice in given.notices:
            notify(notice)
        show = progress or watched_progress()
        found = score(opened, given, kept, batch, progress=show, notify=notify)
    return None if found is None else EvaluationReport(**vars(found))

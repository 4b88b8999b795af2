"""Text becomes a checkpoint."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from loihi_mmfree.errors import Notice
from loihi_mmfree.progress import Progress, watched_progress
from loihi_mmfree.train.folder import read_recipe
from loihi_mmfree.train.recipe import Recipe

if TYPE_CHECKING:
    from loihi_mmfree.train.training import Training


def train(
    output: str | Path,
    recipe: Recipe | None = None,
    *,
    text: str | Path | None = None,
    steps: int | None = None,
    tokenizer: str | Path | None = None,
    device: str | None = None,
    tensorboard: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Training | None:
    """Train a model on a text, into a folder of Hugging Face that `compile` takes.

    Parameters
    ----------
    output : str or Path
        The folder. While the training goes on, it holds what is needed to go on with it.
    recipe : Recipe, optional
        What to train and how: `Recipe.preset("tiny")`, or read from TOML.
    text : str or Path, optional
        Plain text in UTF-8, or a JSON object a line (`.jsonl`).
    steps : int, optional
        Instead of those of the recipe.
    tokenizer : str or Path, optional
        A tokenizer.json or tokenizer.model; by default one is trained on the text.
    device : {"cuda", "cpu"}, optional
        By default a GPU if there is one. Several are started by torchrun.
    tensorboard : str or Path, optional
        Folder for the log of TensorBoard.
    resume : bool
        Go on with the training that was begun in `output`; on a CPU, what it gives then is bit for bit what an
        uninterrupted one gives. Recipe and text may be left out; others are refused.
    force : bool
        Replace a training that was begun in `output`.
    progress : callable, optional
        Called with a stage, how much is done, and how much there is. By default shown to whom watches.
    on_notice : callable, optional
        Called with what the user should know. By default a `Notice` is warned of.

    Returns
    -------
    Training, optional
        The recipe and what is known of each step; None in all processes but the first.

    Raises
    ------
    UsageError
        Recipe, text, tokenizer or folder cannot be used.
    TrainingError
        The loss is no number any more.
    BackendUnavailableError
        There is no such device, or the extra `train` is not installed.
    """
    from loihi_mmfree.train.training import TrainingRequest
    from loihi_mmfree.train.training import train as go

    path = Path(output)
    if steps is not None:
        begun = recipe or (read_recipe(path) if resume else None)
        recipe = None if begun is None else dataclasses.replace(begun, steps=steps)
    text, tokenizer, tensorboard = (
        None if each is None else Path(each) for each in (text, tokenizer, tensorboard)
    )
    request = TrainingRequest(path, text, tokenizer, device, tensorboard, resume, force)
    notify = on_notice or (lambda notice: warnings.warn(notice, Notice, stacklevel=2))
    return go(request, recipe, progress or watched_progress(), notify)

"""Text becomes a checkpoint, and a checkpoint one that is made for a chip."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.errors import Notice
from loihi_mmfree.progress import Progress, watched_progress
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.train.folder import read_recipe
from loihi_mmfree.train.recipe import Recipe, quantization_of

if TYPE_CHECKING:
    from loihi_mmfree.train.training import Training


def train(
    output: str | Path,
    recipe: Recipe | Mapping[str, Any] | None = None,
    *,
    text: str | Path | None = None,
    steps: int | None = None,
    base: str | Path | None = None,
    quantize: QuantizationConfig | str | Path | None = None,
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
    recipe : Recipe, or mapping, optional
        What to train and how: `Recipe.preset("tiny")`, or what TOML would say, such as `{"shape": "tiny"}`. With
        `base` it need not say what the model is.
    text : str or Path, optional
        Plain text in UTF-8, or a JSON object a line (`.jsonl`).
    steps : int, optional
        Instead of those of the recipe.
    base : str or Path, optional
        A checkpoint to start from, as `compile` takes it, with its tokenizer.
    quantize : QuantizationConfig, str or Path, optional
        Train `base` for these formats: widths of activations as "a8", or the file `config.toml` of a compilation.
    tokenizer : str or Path, optional
        A tokenizer.json or tokenizer.model; by default that of `base`, or one that is trained on the text.
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
    from loihi_mmfree.train.beginning import TrainingRequest
    from loihi_mmfree.train.training import train as go

    path = Path(output)
    found = _recipe(recipe, base, quantize)
    if steps is not None:
        begun = found or (read_recipe(path) if resume else None)
        found = None if begun is None else dataclasses.replace(begun, steps=steps)
    text, tokenizer, tensorboard = map(_path, (text, tokenizer, tensorboard))
    request = TrainingRequest(path, text, tokenizer, tensorboard, base, device, resume, force)
    notify = on_notice or (lambda notice: warnings.warn(notice, Notice, stacklevel=2))
    return go(request, found, progress or watched_progress(), notify)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _recipe(
    recipe: Recipe | Mapping[str, Any] | None,
    base: str | Path | None,
    quantize: QuantizationConfig | str | Path | None,
) -> Recipe | None:
    """The recipe that is meant; None if nothing says what it is, as where a training is gone on with."""
    quantization = None if quantize is None else quantization_of(quantize)
    if isinstance(recipe, Recipe):
        return recipe if quantization is None else dataclasses.replace(recipe, quantization=quantization)
    if base is not None:
        return Recipe.for_checkpoint(open_checkpoint(base).config, recipe or {}, quantization)
    if recipe is None:
        return None
    own = {} if quantization is None else {"quantization": quantization.to_dict()}
    return Recipe.from_mapping({**recipe, **own})

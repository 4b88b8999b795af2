"""From text to a checkpoint: what is begun, gone on with, and put in place."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from loihi_mmfree.checkpoint import parameter_count
from loihi_mmfree.checkpoint.source import SourceFile
from loihi_mmfree.errors import BackendUnavailableError, UsageError
from loihi_mmfree.files import file_sha256
from loihi_mmfree.interrupts import importing
from loihi_mmfree.memory import require_torch
from loihi_mmfree.progress import Progress
from loihi_mmfree.quiet import without_cuda_warnings
from loihi_mmfree.scratch import NEW, put_in_place, scratch_beside
from loihi_mmfree.train.corpus import pieces
from loihi_mmfree.train.folder import (
    CONFIG,
    LOG,
    RECIPE,
    TOKENIZER,
    TOKENIZER_SETTINGS,
    TOKENS,
    WORK,
    Facts,
    TrainingFolder,
    new_folder,
    read_recipe,
    require_replaceable,
    write_facts,
)
from loihi_mmfree.train.log import StepRecord, cut_log, read_log
from loihi_mmfree.train.recipe import Recipe
from loihi_mmfree.train.state import load_last, sweep
from loihi_mmfree.train.tokens import TokenWindows, write_tokens
from loihi_mmfree.train.vocabulary import given_tokenizer, train_tokenizer, write_tokenizer
from loihi_mmfree.untrusted import some_of

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from loihi_mmfree.train.loop import Learner

EXTRA = ("transformers", "accelerate", "tensorboard")
"""Packages of the extra `train`."""
KEPT = (RECIPE, TOKENIZER, TOKENIZER_SETTINGS)
"""Files of a training that belong to its checkpoint."""


@dataclass(frozen=True)
class TrainingRequest:
    """What is asked of a training beside its recipe.

    Parameters
    ----------
    output : Path
    text, tokenizer : Path, optional
    device : {"cpu", "cuda"}, optional
    tensorboard : Path, optional
        Folder for TensorBoard's events.
    resume, force : bool
    """

    output: Path
    text: Path | None = None
    tokenizer: Path | None = None
    device: str | None = None
    tensorboard: Path | None = None
    resume: bool = False
    force: bool = False


@dataclass(frozen=True)
class Training:
    """A training that has ended.

    Parameters
    ----------
    path : Path
        The checkpoint.
    recipe : Recipe
    records : tuple of StepRecord
        One for every step.
    """

    path: Path
    recipe: Recipe
    records: tuple[StepRecord, ...]

    @property
    def loss(self) -> float:
        """Of the last step, in nats a token."""
        return self.records[-1].loss

    @property
    def parameters(self) -> int:
        """How many the model has."""
        return parameter_count(self.recipe.model)

    def __repr__(self) -> str:
        return f"<Training of {self.path}: {len(self.records)} steps, loss {self.loss:.4f}>"


def train(
    request: TrainingRequest, recipe: Recipe | None, progress: Progress, notify: Callable[[str], None]
) -> Training | None:
    """Train from text to a checkpoint, or go on where a training was interrupted.

    Parameters
    ----------
    request : TrainingRequest
    recipe : Recipe, optional
        With `request.resume`, that of what was begun may be left out, and must be the same if it is given.
    progress : callable
    notify : callable
        Called with what the user should know.

    Returns
    -------
    Training, optional
        None in all processes but the first.

    Raises
    ------
    LoihiMmfreeError
        See `loihi_mmfree.errors`.
    """
    output = request.output
    if request.resume:
        recipe = _begun(output, recipe)
        if (output / CONFIG).is_file():
            notify(f"{output}: this training has ended; nothing is left to do")
            return Training(output, recipe, tuple(read_log(output / LOG)))
    else:
        require_replaceable(output, request.force)
    if recipe is None:
        raise UsageError("nothing says what to train; give `recipe=Recipe.preset('tiny')`, or another one")
    _require_extra()
    if not request.resume and is_first_process():
        # Before the imports, which take seconds: most of what can be wrong is wrong here.
        begin(request, recipe, progress)
    _import_libraries()
    from loihi_mmfree.train.language_model import float_learner
    from loihi_mmfree.train.loop import accelerating

    learner = float_learner(recipe.model, recipe.seed)
    with accelerating(recipe, request.device, learner.shared_whole) as accelerator:
        accelerator.wait_for_everyone()
        folder = TrainingFolder.open(output)
        if request.text is not None and request.resume:
            _require_same_text(request.text, folder.facts)
        with folder.held() if accelerator.is_main_process else contextlib.nullcontext():
            _go_on(folder, recipe, learner, accelerator, request, progress, notify)
        accelerator.wait_for_everyone()
        first = accelerator.is_main_process
    return Training(output, recipe, tuple(read_log(output / LOG))) if first else None


def _begun(output: Path, recipe: Recipe | None) -> Recipe:
    """The recipe of a training that was begun, which must be the one given."""
    begun = read_recipe(output)
    different = [] if recipe is None else begun.differences(recipe)
    if different:
        raise UsageError(
            f"{output}: was begun with other settings, and goes on with its own only: {some_of(different)}. Leave "
            "them out, or begin another training"
        )
    return begun


def text_sha256(text: Path) -> str:
    """Return the SHA-256 of a file of text.

    Raises
    ------
    UsageError
        It cannot be read.
    """
    try:
        return file_sha256(text)
    except OSError as error:
        raise UsageError(f"`text` {text}: cannot be read: {error.strerror}") from error


def _require_same_text(text: Path, facts: Facts) -> None:
    if text_sha256(text) != facts.text_sha256:
        raise UsageError(
            f"`text` {text}: not the text that the training was begun with; leave `text` out, or begin another one"
        )


def is_first_process() -> bool:
    """Whether this is the first of the processes that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _require_extra() -> None:
    """Refuse what cannot end well before the text is read."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise BackendUnavailableError(
            f"train needs {', '.join(EXTRA)}; {', '.join(missing)} is not installed: "
            "pip install 'loihi-mmfree[train]'"
        )


def _import_libraries() -> None:
    require_torch()
    with importing(), without_cuda_warnings():
        import accelerate  # noqa: F401
        import torch.utils.tensorboard  # noqa: F401
        import transformers  # noqa: F401


def begin(request: TrainingRequest, recipe: Recipe, progress: Progress) -> None:
    """Make the folder of a training: recipe, tokenizer and tokens, all of it or nothing.

    Raises
    ------
    UsageError
        The text cannot be read, is too little, or the folder is in the way.
    """
    text = request.text
    if text is None:
        raise UsageError("nothing to train on; give `text=FILE`")
    digest = text_sha256(text)
    size = max(1, text.stat().st_size)
    with new_folder(request.output, request.force) as new:
        work = new / WORK
        work.mkdir()
        (new / RECIPE).write_text(recipe.to_toml(), encoding="utf-8")
        if request.tokenizer is not None:
            content = given_tokenizer(request.tokenizer, recipe.model)
        else:
            progress("tokenizer", 0, 1)
            documents = pieces(text, recipe.text.field)
            content = train_tokenizer(documents, recipe.model, recipe.text.tokenizer_characters)
            progress("tokenizer", 1, 1)
        tokenizer = write_tokenizer(new, content, recipe.model)
        count, tokens_sha256 = write_tokens(
            work / TOKENS,
            pieces(text, recipe.text.field),
            tokenizer,
            recipe.model,
            lambda done: progress("tokens", min(done, size), size),
        )
        progress("tokens", size, size)
        if not count:
            raise UsageError(f"`text` {text}: there is no text in it")
        TokenWindows(SourceFile.of(work / TOKENS), recipe)
        write_facts(new, Facts(digest, count, tokens_sha256))


def _go_on(
    folder: TrainingFolder,
    recipe: Recipe,
    learner: Learner,
    accelerator: Accelerator,
    request: TrainingRequest,
    progress: Progress,
    notify: Callable[[str], None],
) -> None:
    """Take the steps that are left, and put the checkpoint in place of what was needed for them."""
    from loihi_mmfree.train.loop import Loop

    first = accelerator.is_main_process
    if first:
        sweep(folder.work)
    accelerator.wait_for_everyone()
    saved = load_last(folder.work, notify if first else lambda _: None)
    loop = Loop(accelerator, learner, recipe, saved)
    windows = TokenWindows(folder.tokens(), recipe)
    log = folder.work / LOG
    with _recording(log, loop.step, request.tensorboard, recipe, progress) if first else _nothing() as record:
        loop.run(windows, folder.work, record, notify if first else lambda _: None)
    weights = loop.weights()
    if first:
        _finish(folder.path, recipe, weights)


@contextlib.contextmanager
def _recording(
    log: Path, step: int, tensorboard: Path | None, recipe: Recipe, progress: Progress
) -> Iterator[Callable[[StepRecord], None]]:
    """Give what takes down each step, from a step on: in the log, for TensorBoard, and for who watches."""
    cut_log(log, step)
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(log.open("a", encoding="utf-8"))
        writer = None
        if tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            writer = stack.enter_context(SummaryWriter(str(tensorboard), purge_step=step + 1))

        def take(record: StepRecord) -> None:
            lines.write(record.to_json())
            lines.flush()
            progress("train", record.step, recipe.steps)
            if writer is not None:
                writer.add_scalar("loss", record.loss, record.step)
                writer.add_scalar("gradient_norm", record.gradient_norm, record.step)
                writer.add_scalar("learning_rate", record.learning_rate, record.step)

        progress("train", step, recipe.steps)
        yield take


def _nothing() -> contextlib.AbstractContextManager[Callable[[StepRecord], None]]:
    """What the other processes have in place of `_recording`."""
    return contextlib.nullcontext(lambda _: None)


def _finish(path: Path, recipe: Recipe, weights: Mapping[str, Tensor]) -> None:
    """Put a folder of Hugging Face in place of that of the training, in one step."""
    from safetensors import SafetensorError

    from loihi_mmfree.train.language_model import write_model

    try:
        with scratch_beside(path) as scratch:
            new = scratch / NEW
            new.mkdir()
            for name in KEPT:
                shutil.copyfile(path / name, new / name)
            shutil.copyfile(path / WORK / LOG, new / LOG)
            write_model(new, recipe.model, weights)
            for each in new.glob("*.safetensors"):
                # The library lets nobody but their owner read them.
                shutil.copymode(new / RECIPE, each)
            put_in_place(scratch, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{path}: all steps are done and saved, but the checkpoint was not written: {reason}. Make room, and "
            "write it with `resume=True`"
        ) from error

"""From text to a checkpoint: what is begun, gone on with, and put in place."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from loihi_mmfree.checkpoint import Checkpoint, open_checkpoint, parameter_count
from loihi_mmfree.errors import BackendUnavailableError, UsageError
from loihi_mmfree.files import write_whole
from loihi_mmfree.interrupts import importing
from loihi_mmfree.memory import require_torch
from loihi_mmfree.progress import Progress
from loihi_mmfree.quantize.formats_file import FORMATS, TrainedFormats
from loihi_mmfree.quantize.libraries import import_libraries
from loihi_mmfree.quiet import without_cuda_warnings
from loihi_mmfree.scratch import NEW, put_in_place, scratch_beside
from loihi_mmfree.train.beginning import TrainingRequest, begin, text_sha256
from loihi_mmfree.train.folder import (
    CONFIG,
    LOG,
    RECIPE,
    TOKENIZER,
    TOKENIZER_SETTINGS,
    WORK,
    Facts,
    TrainingFolder,
    read_recipe,
    require_replaceable,
)
from loihi_mmfree.train.log import StepRecord, cut_log, read_log
from loihi_mmfree.train.recipe import Recipe
from loihi_mmfree.train.state import load_last, sweep
from loihi_mmfree.train.tokens import TokenWindows
from loihi_mmfree.untrusted import some_of

if TYPE_CHECKING:
    from accelerate import Accelerator

    from loihi_mmfree.train.loop import Learner

EXTRA = ("transformers", "accelerate", "tensorboard")
"""Packages of the extra `train`."""
KEPT = (RECIPE, TOKENIZER, TOKENIZER_SETTINGS)
"""Files of a training that belong to its checkpoint."""


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
    exact_loss : float, optional
        Of the integers that a checkpoint trained for a chip compiles to, on the windows of the last step.
    """

    path: Path
    recipe: Recipe
    records: tuple[StepRecord, ...]
    exact_loss: float | None = None

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
    if recipe.quantization is not None and request.base is None and not request.resume:
        raise UsageError("recipe: quantization is for a checkpoint that is trained already; give `base=CKPT`")
    _require_extra()
    _require_device(request.device)
    if not request.resume and is_first_process():
        # Before the imports, which take seconds: most of what can be wrong is wrong here.
        begin(request, recipe, progress)
    _import_libraries(recipe)
    from loihi_mmfree.train.loop import accelerating

    with accelerating(recipe, request.device) as accelerator:
        accelerator.wait_for_everyone()
        folder = TrainingFolder.open(output)
        if request.text is not None and request.resume:
            _require_same_text(request.text, folder.facts)
        with folder.held() if accelerator.is_main_process else contextlib.nullcontext():
            loss = _go_on(folder, recipe, accelerator, request, progress, notify)
        accelerator.wait_for_everyone()
        first = accelerator.is_main_process
    return Training(output, recipe, tuple(read_log(output / LOG)), loss) if first else None


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


def _require_device(device: str | None) -> None:
    """Refuse a device that is not here, before anything is begun or replaced."""
    if device == "cuda":
        require_torch()
        with importing(), without_cuda_warnings():
            import torch
        if torch.cuda.is_available():
            return
    elif device in (None, "cpu"):
        return
    raise BackendUnavailableError(f"`device={device!r}`: there is no such device here; cpu and cuda are known")


def _import_libraries(recipe: Recipe) -> None:
    require_torch()
    if recipe.quantization is not None:
        import_libraries()
    with importing(), without_cuda_warnings():
        import accelerate  # noqa: F401
        import torch.utils.tensorboard  # noqa: F401
        import transformers  # noqa: F401


def _go_on(
    folder: TrainingFolder,
    recipe: Recipe,
    accelerator: Accelerator,
    request: TrainingRequest,
    progress: Progress,
    notify: Callable[[str], None],
) -> float | None:
    """Take the steps that are left, and put the checkpoint in place of what was needed for them."""
    from loihi_mmfree.train.loop import Loop

    first = accelerator.is_main_process
    if first:
        sweep(folder.work)
    accelerator.wait_for_everyone()
    saved = load_last(folder.work, notify if first else lambda _: None)
    windows = TokenWindows(folder.tokens(), recipe)
    learner = _learner(folder, recipe, accelerator, _base(request, folder.facts), windows)
    loop = Loop(accelerator, learner, recipe, saved)
    log = folder.work / LOG
    with _recording(log, loop.step, request.tensorboard, recipe, progress) if first else _nothing() as record:
        loop.run(windows, folder.work, record, notify if first else lambda _: None)
    weights = loop.weights()
    if not first:
        return None
    with _finished(folder.path) as new:
        learner.write(new, weights)
        return _exact_loss(new, recipe, windows, accelerator)


def _base(request: TrainingRequest, facts: Facts) -> Checkpoint | None:
    """The checkpoint that a training started from, or None."""
    named = request.base or facts.base
    if named is None or facts.base is None:
        return None
    base = open_checkpoint(named)
    if base.sha256() != facts.base_sha256:
        raise UsageError(f"`base` {named}: not the checkpoint that the training started from")
    return base


def _learner(
    folder: TrainingFolder,
    recipe: Recipe,
    accelerator: Accelerator,
    base: Checkpoint | None,
    windows: TokenWindows,
) -> Learner:
    """What is trained: the float model, or with `recipe.quantization` the quantized one of a checkpoint."""
    from loihi_mmfree.train.language_model import float_learner

    if recipe.quantization is None:
        return float_learner(recipe.model, recipe.seed, base)
    from loihi_mmfree.train.retraining import choose_formats, quantized_learner

    assert base is not None
    path = folder.work / FORMATS
    if accelerator.is_main_process and not path.exists():
        write_whole(path, choose_formats(base, recipe, recipe.quantization, windows).to_json().encode())
    accelerator.wait_for_everyone()
    return quantized_learner(base, recipe, TrainedFormats.read(path))


def _exact_loss(folder: Path, recipe: Recipe, windows: TokenWindows, accelerator: Accelerator) -> float | None:
    """The loss of the compiled integers on the windows of the last step; None of a float model."""
    if recipe.quantization is None:
        return None
    import torch

    from loihi_mmfree.train.retraining import exact_loss

    ids = torch.from_numpy(windows.batch(recipe.steps - 1)).to(accelerator.device)
    return exact_loss(folder, ids, recipe.micro_batch or recipe.batch)


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


@contextlib.contextmanager
def _finished(path: Path) -> Iterator[Path]:
    """Give a folder with what stays of a training, which takes its place in one step when the block ends."""
    from safetensors import SafetensorError

    try:
        with scratch_beside(path) as scratch:
            new = scratch / NEW
            new.mkdir()
            for name in KEPT:
                shutil.copyfile(path / name, new / name)
            shutil.copyfile(path / WORK / LOG, new / LOG)
            yield new
            put_in_place(scratch, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{path}: all steps are done and saved, but the checkpoint was not written: {reason}. Make room, and "
            "write it with `resume=True`"
        ) from error

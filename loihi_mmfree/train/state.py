"""Checkpoints of a training: weights, moments of the optimizer and the step, each file whole or not there.

There is no generator of random numbers in them: fresh weights and the order of windows follow from the seed, and
no step draws any.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import file_sha256, read_regular
from loihi_mmfree.scratch import NEW, put_in_place, scratch_beside
from loihi_mmfree.untrusted import parse_json

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, MOMENTS, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
KEPT = 2
"""Checkpoints at a time: should the last one be damaged, there is another."""
LARGEST_STATE_BYTES = 2**20
_NAME = re.compile(r"step-(\d{8,10})")

Tensors = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Saved:
    """A checkpoint of a training.

    Parameters
    ----------
    step : int
        Steps done.
    weights, moments : mapping of str to Tensor
        Of the model, and of the optimizer as `name of parameter/name of moment`; on the CPU.
    """

    step: int
    weights: Tensors
    moments: Tensors


def save(work: Path, saved: Saved) -> None:
    """Write a checkpoint into the folder of those of a training, and remove all but the last ones.

    Raises
    ------
    UsageError
        It cannot be written. The earlier ones are still there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target = work / f"step-{saved.step:08}"
    try:
        with scratch_beside(target) as scratch:
            new = scratch / NEW
            new.mkdir()
            save_file(dict(saved.weights), new / WEIGHTS)
            save_file(dict(saved.moments), new / MOMENTS)
            hashes = {name: file_sha256(new / name) for name in (WEIGHTS, MOMENTS)}
            (new / STATE).write_text(json.dumps({"step": saved.step, "sha256": hashes}) + "\n")
            for each in (*new.iterdir(), new):
                _to_disk(each)
            put_in_place(scratch, target)
            _to_disk(work)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        last = max(_steps(work), default=None)
        kept = "none is there yet" if last is None else f"the last one there is of step {last}"
        raise UsageError(
            f"{work}: the checkpoint of step {saved.step} was not written: {reason}; {kept}. Make room, and go on "
            "with `resume=True`"
        ) from error
    for step in sorted(_steps(work))[:-KEPT]:
        shutil.rmtree(work / f"step-{step:08}", ignore_errors=True)


def load_last(work: Path, notify: Callable[[str], None]) -> Saved | None:
    """Return the last checkpoint that is whole, or None; what is damaged is told and passed over."""
    for step in sorted(_steps(work), reverse=True):
        folder = work / f"step-{step:08}"
        reason = _damage(folder, step)
        if reason is None:
            return Saved(step, _read(folder / WEIGHTS), _read(folder / MOMENTS))
        notify(f"{folder}: damaged and not used: {reason}")
    return None


def _read(path: Path) -> Tensors:
    """The tensors of a file, in memory of their own: the library maps it."""
    from safetensors.torch import load_file

    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def sweep(work: Path) -> None:
    """Remove what a process that was killed left half written; no other one may be at work."""
    for path in work.iterdir():
        if path.name.startswith("."):
            shutil.rmtree(path, ignore_errors=True)


def _steps(work: Path) -> list[int]:
    """The steps of which there are checkpoints."""
    return [int(found[1]) for path in work.iterdir() if (found := _NAME.fullmatch(path.name))]


def _damage(folder: Path, step: int) -> str | None:
    """What is wrong with a checkpoint; None if it is whole."""
    try:
        state: Any = parse_json(read_regular(folder / STATE, LARGEST_STATE_BYTES))
        hashes = state["sha256"]
        if state["step"] != step:
            return f"{STATE} is of step {state['step']}"
        wrong = [name for name in (WEIGHTS, MOMENTS) if hashes[name] != file_sha256(folder / name)]
    except OSError as error:
        return f"{Path(error.filename or folder).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return f"{STATE} is none"
    return f"{wrong[0]} is not what was written" if wrong else None


def _to_disk(path: Path) -> None:
    """Wait until a file or folder would outlive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

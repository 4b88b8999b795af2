"""The folder of a training: begun whole, gone on with by one process at a time, and in the end a checkpoint.

While it goes on there are recipe.toml, the tokenizer, and `training/` with the tokens, the log and checkpoints; in
the end the weights and their config.json, and in place of `training/` its log.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loihi_mmfree.checkpoint.source import SourceFile
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import LARGEST_SETTINGS_BYTES, file_sha256, read_regular, read_text
from loihi_mmfree.scratch import NEW, hold, put_in_place, scratch_beside
from loihi_mmfree.train.recipe import Recipe
from loihi_mmfree.untrusted import parse_json, some_of

RECIPE, LOG, WORK = "recipe.toml", "training_log.jsonl", "training"
TOKENS, FACTS = "tokens.bin", "facts.json"
"""In the folder `training`."""
CONFIG = "config.json"
TOKENIZER, TOKENIZER_SETTINGS = "tokenizer.json", "tokenizer_config.json"
LARGEST_FACTS_BYTES = 2**20
_OURS = re.compile(
    r"recipe\.toml|training_log\.jsonl|training|config\.json|generation_config\.json|tokenizer\.json"
    r"|tokenizer_config\.json|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|trained_formats\.json"
)


@dataclass(frozen=True)
class Facts:
    """What a training began with, beside its recipe.

    Parameters
    ----------
    text_sha256 : str
        Of the file of text.
    tokens : int
        How many there are in `tokens.bin`.
    tokens_sha256 : str
        Of that file.
    base : str, optional
        The checkpoint that it started from.
    base_sha256 : str, optional
        Of that checkpoint.
    """

    text_sha256: str
    tokens: int
    tokens_sha256: str
    base: str | None = None
    base_sha256: str | None = None


@contextlib.contextmanager
def new_folder(target: Path, force: bool) -> Iterator[Path]:
    """Give a scratch folder which takes the place of `target` when the block ends without an error.

    Raises
    ------
    UsageError
        Something is there that may not be replaced, or nothing can be written there.
    """
    require_replaceable(target, force)
    try:
        with scratch_beside(target) as scratch:
            new = scratch / NEW
            new.mkdir()
            yield new
            require_replaceable(target, force)
            put_in_place(scratch, target)
    except OSError as error:
        raise UsageError(f"{target}: not written: {error.strerror}; nothing was changed") from error


def require_replaceable(target: Path, force: bool) -> None:
    """Refuse a folder in the way, unless it is empty, or of a training and nothing else and `force` is given.

    Raises
    ------
    UsageError
    """
    if not os.path.lexists(target):
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    if not force:
        going_on = ", `resume=True` to go on with it" if (target / WORK).is_dir() else ""
        raise UsageError(f"{target} exists; give `force=True` to replace it{going_on}, or another folder")
    if not target.is_dir() or not (target / RECIPE).is_file():
        raise UsageError(f"{target} exists and is no training; `force=True` replaces only those")
    foreign = sorted(path.name for path in target.iterdir() if not _OURS.fullmatch(path.name))
    if foreign:
        raise UsageError(
            f"{target} holds more than a training: `force=True` would remove {some_of(foreign)} with it; move "
            "that away, or give another folder"
        )


def read_recipe(target: Path) -> Recipe:
    """Return the recipe of a training that was begun.

    Raises
    ------
    UsageError
        There is none.
    """
    if not (target / RECIPE).is_file():
        raise UsageError(f"{target}: no training was begun there; leave `resume=True` out to begin one")
    path = target / RECIPE
    return Recipe.from_toml(read_text(path, LARGEST_SETTINGS_BYTES), str(path))


def write_facts(folder: Path, facts: Facts) -> None:
    """Write down what a training begins with."""
    (folder / WORK / FACTS).write_text(json.dumps(asdict(facts), indent=1) + "\n")


@dataclass(frozen=True)
class TrainingFolder:
    """An unfinished training.

    Parameters
    ----------
    path : Path
    facts : Facts
    """

    path: Path
    facts: Facts

    @classmethod
    def open(cls, path: Path) -> TrainingFolder:
        """Open it.

        Raises
        ------
        UsageError
            What it began with is gone or damaged.
        """
        source = path / WORK / FACTS
        try:
            values: Any = parse_json(read_regular(source, LARGEST_FACTS_BYTES))
            return cls(path, Facts(**values))
        except OSError as error:
            raise UsageError(
                f"{source}: cannot be read: {error.strerror}; begin anew with `force=True`"
            ) from error
        except (ValueError, TypeError) as error:
            raise UsageError(f"{source}: damaged: {error}; begin anew with `force=True`") from error

    @property
    def work(self) -> Path:
        """The folder of checkpoints."""
        return self.path / WORK

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training here at the same time.

        Raises
        ------
        UsageError
            One does.
        """
        lock = hold(self.work)
        if lock is None:
            raise UsageError(f"{self.path}: another process trains there; wait for it, or end it")
        try:
            yield
        finally:
            os.close(lock)

    def tokens(self) -> SourceFile:
        """Return the tokens.

        Raises
        ------
        UsageError
            They are not those that were written.
        """
        path = self.work / TOKENS
        try:
            found = file_sha256(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}; begin anew with `force=True`") from error
        if found != self.facts.tokens_sha256:
            raise UsageError(f"{path}: damaged; begin anew with `force=True`")
        return SourceFile.of(path)

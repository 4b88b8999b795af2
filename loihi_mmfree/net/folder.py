"""The folder of a compiled network: read through one descriptor, replaced whole, and never anything else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from loihi_mmfree.errors import ArtifactError, UsageError
from loihi_mmfree.files import open_regular
from loihi_mmfree.scratch import NEW, put_in_place, scratch_beside
from loihi_mmfree.untrusted import cut, parse_json, some_of

MANIFEST, GRAPH, WEIGHTS = "manifest.json", "graph.json", "weights.safetensors"
CONFIG, GOLDEN, TOKENIZER = "config.toml", "golden.npz", "tokenizer.json"
PLACEMENT = "placement.json"
REPORT = "report"
"""Folder of what runs add to a network: no part of what was compiled, and so of no hash."""
ACTIVITY = "activity.npz"
"""The file in the `report` folder (see `activity.file`)."""
REQUIRED = frozenset({GRAPH, WEIGHTS, PLACEMENT, CONFIG, GOLDEN})
"""Files that every manifest lists."""
LARGEST_JSON_BYTES = 64 * 2**20
LARGEST_GOLDEN_BYTES = 2**30
_PARTIAL = re.compile(r"\.activity\.npz\.[0-9a-f]{32}\.partial")
"""What a run that was killed left of a file in `report`."""
_CHUNK = 2**20
_ATTEMPTS = 200
_PAUSE_SECONDS = 0.005

T = TypeVar("T")


class NetFolder:
    """An open folder. Its files stay those of one network, whatever takes the place of the folder meanwhile.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ArtifactError
        It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ArtifactError(f"{path}: no such folder; `loihi-mmfree compile` makes one") from error
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path}: cannot be opened: {error}") from error

    def __enter__(self) -> NetFolder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    @property
    def identity(self) -> tuple[int, int]:
        """What tells this folder from another that takes its place."""
        found = os.fstat(self._handle)
        return found.st_dev, found.st_ino

    def holds(self, name: str) -> bool:
        """Whether there is anything of a name."""
        try:
            os.stat(name, dir_fd=self._handle)
        except OSError:
            return False
        return True

    def open(self, name: str) -> BinaryIO:
        """Open a file.

        Raises
        ------
        ArtifactError
            It is missing or no regular file.
        """
        try:
            return open_regular(name, self._handle)
        except FileNotFoundError as error:
            raise ArtifactError(f"{self.path / name}: missing; compile again") from error
        except (OSError, ValueError) as error:
            raise self.unreadable(name, getattr(error, "strerror", None) or error) from error

    def read(self, name: str, largest: int) -> bytes:
        """Read a file of at most `largest` bytes."""
        with self.open(name) as file:
            try:
                content = file.read(largest + 1)
            except OSError as error:
                raise self.unreadable(name, error.strerror) from error
        if len(content) > largest:
            raise self.unreadable(name, f"larger than {largest} bytes, which no compilation writes")
        return content

    def json(self, name: str) -> Any:
        """Read a JSON file."""
        content = self.read(name, LARGEST_JSON_BYTES)
        try:
            return parse_json(content)
        except ValueError as error:
            raise self.unreadable(name, error) from error

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file, as hexadecimal digits."""
        digest = hashlib.sha256()
        with self.open(name) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def unreadable(self, name: str, reason: object) -> ArtifactError:
        """Return what to raise about a file that cannot be used."""
        return ArtifactError(f"{self.path / name}: cannot be read: {cut(reason)}; compile again")


def read_folder(path: Path, read: Callable[[NetFolder], T], expected: tuple[int, int] | None = None) -> T:
    """Read from a folder; if another takes its place meanwhile, read that one from the beginning.

    Parameters
    ----------
    path : Path
    read : callable
        Called with the open folder.
    expected : pair of int, optional
        Read this folder (`NetFolder.identity`) or none.

    Raises
    ------
    ArtifactError
        What is there cannot be read, or is not the folder expected.
    """
    for attempt in range(_ATTEMPTS):
        last = expected is not None or attempt + 1 == _ATTEMPTS
        try:
            folder = NetFolder(path)
        except ArtifactError:
            if last or not _is_on_its_way(path):
                raise
        else:
            with folder:
                if expected not in (None, folder.identity):
                    raise ArtifactError(f"{path}: was replaced since it was loaded; load it again")
                try:
                    return read(folder)
                except ArtifactError:
                    # Asked while it is open: a folder that is closed and gone may leave its number to the next.
                    if last or folder.identity == _identity(path):
                        raise
        time.sleep(_PAUSE_SECONDS)
    raise AssertionError


def _is_on_its_way(path: Path) -> bool:
    """Whether a folder that is not there is just being put there."""
    parent = path.absolute().parent
    beside = os.listdir(parent) if not os.path.lexists(path) and parent.is_dir() else ()
    return any(name.startswith(f".{path.name}.") for name in beside)


def _identity(path: Path) -> tuple[int, int] | None:
    """What `NetFolder.identity` would be of what is at a path now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def strangers(path: Path) -> list[str]:
    """Return what lies in a folder and is no part of a compiled network; empty if it is one and nothing else."""
    ours = {MANIFEST, TOKENIZER, *REQUIRED}
    found = [
        name
        for name, mode in _modes(path)
        if not (name in ours and stat.S_ISREG(mode)) and not (name == REPORT and stat.S_ISDIR(mode))
    ]
    for name, mode in _modes(path / REPORT) if os.path.isdir(path / REPORT) and REPORT not in found else ():
        known = name == ACTIVITY or _PARTIAL.fullmatch(name)
        if not known or not stat.S_ISREG(mode):
            found.append(f"{REPORT}/{name}")
    return sorted(found) if found or _has_our_manifest(path) else [MANIFEST]


def _modes(path: Path) -> list[tuple[str, int]]:
    with os.scandir(path) as entries:
        return [(each.name, each.stat(follow_symlinks=False).st_mode) for each in entries]


def _has_our_manifest(path: Path) -> bool:
    try:
        with NetFolder(path) as folder:
            manifest = folder.json(MANIFEST)
    except ArtifactError:
        return False
    files = manifest.get("files") if isinstance(manifest, dict) else None
    return isinstance(files, dict) and {GRAPH, WEIGHTS} <= files.keys() and "schema_version" in manifest


def require_network(target: Path, force: bool) -> None:
    """Refuse to replace anything but, with `force`, an empty folder or a compiled network and nothing else."""
    if not os.path.lexists(target):
        return
    if not force:
        raise UsageError(f"{target} exists; give `force=True` to replace it, or another folder")
    if _is_empty_folder(target):
        return
    if not (target / MANIFEST).is_file():
        raise UsageError(f"{target} exists and is not a compiled network; `force=True` replaces only those")
    try:
        foreign = strangers(target)
    except OSError as error:
        raise UsageError(f"{target}: cannot be looked into: {error.strerror}") from error
    if foreign == [MANIFEST]:
        raise UsageError(
            f"{target} exists and is not a compiled network, by its {MANIFEST}; `force=True` replaces only those"
        )
    if foreign:
        raise UsageError(
            f"{target} is not a compiled network alone: `force=True` would remove {some_of(foreign)} with it; "
            "move that away, or give another folder"
        )


@contextlib.contextmanager
def atomic_folder(
    target: Path, force: bool, require_replaceable: Callable[[Path, bool], None] = require_network
) -> Iterator[Path]:
    """Give a scratch folder beside `target` which takes its place when the block ends without an error.

    Parameters
    ----------
    target : Path
    force : bool
        Whether what is there may be replaced.
    require_replaceable : callable
        Refuses what must not be, given both; by default all but a compiled network.

    Raises
    ------
    UsageError
        `target` exists and `force` is not given, it is nothing that may be replaced, it cannot be replaced, or the
        disk is full. What was there before is still there.
    """
    require_replaceable(target, force)
    with contextlib.ExitStack() as stack:
        try:
            scratch = stack.enter_context(scratch_beside(target))
        except OSError as error:
            raise UsageError(f"{target.absolute().parent}: cannot write there: {error.strerror}") from error
        try:
            new = scratch / NEW
            new.mkdir()
            yield new
            if not force and target.exists() and not _is_empty_folder(target):
                raise UsageError(
                    f"{target} was written by another program meanwhile; it is kept, this one is not written"
                )
            if force:
                # A compilation takes minutes, in which others may have put something there.
                require_replaceable(target, force)
            put_in_place(scratch, target)
        except OSError as error:
            raise UsageError(f"{target}: not written: {error.strerror}; nothing was changed") from error


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())

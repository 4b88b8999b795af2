"""Scratch folders beside what they will replace: held while in use, and swept when their owner has died."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from loihi_mmfree.errors import UsageError
from loihi_mmfree.interrupts import ENDING, deferred

NEW, OLD = "new", "old"
"""What a scratch folder holds: what is being made, and what had been in its place."""
_SUFFIX = ".scratch"
_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux's renameat2."""


@contextlib.contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """Give a hidden scratch folder beside `target`, and remove it at the end, whatever ends the block.

    What a process that was killed had left for the same target is swept first; what it had moved away from there
    comes back. Folders that were made to hold the target go again if it is not there at the end.

    Raises
    ------
    OSError
        No folder can be made there.
    """
    parent = target.absolute().parent
    made = [each for each in (parent, *parent.parents) if not each.exists()]
    scratch, lock = None, None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        with deferred(*ENDING):
            scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_SUFFIX, dir=parent))
            lock = hold(scratch)
        yield scratch
    finally:
        with deferred(*ENDING):
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)
            if lock is not None:
                os.close(lock)
            if not os.path.lexists(target):
                with contextlib.suppress(OSError):  # Somebody else has put something there.
                    for each in made:
                        each.rmdir()


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a folder in the making, which appears as `target` when the block ends without an error.

    Raises
    ------
    UsageError
        There is something at `target`, or it cannot be written. Then nothing is changed.
    """
    try:
        with scratch_beside(target) as scratch:
            new = scratch / NEW
            new.mkdir()
            _require_absent(target)
            yield new
            _require_absent(target)
            put_in_place(scratch, target)
    except OSError as error:
        raise UsageError(f"{target}: not written: {error.strerror}; nothing was changed") from error


def _require_absent(target: Path) -> None:
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise UsageError(f"{target} exists; give another folder, or remove it")


def put_in_place(scratch: Path, target: Path) -> None:
    """Let what was made in a scratch folder take the place of `target`, in one step where the system has it.

    Raises
    ------
    OSError
        It cannot. What was there before is still there.
    """
    new, old = scratch / NEW, scratch / OLD
    if not os.path.lexists(target) or not exchange(new, target):
        try:
            if os.path.lexists(target):
                os.replace(target, old)
            os.replace(new, target)
        except BaseException:
            # Also when interrupted: what was there must not go with the scratch folder.
            if os.path.lexists(old) and not os.path.lexists(target):
                os.replace(old, target)
            raise


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step. Returns False where the system or its file system cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), ctypes.c_uint(_EXCHANGE)) == 0


def _sweep(target: Path) -> None:
    """Remove the scratch folders for a target whose owners are dead."""
    parent, prefix = target.absolute().parent, f".{target.name}."
    for name in os.listdir(parent):
        scratch = parent / name
        if not (name.startswith(prefix) and name.endswith(_SUFFIX)) or scratch.is_symlink():
            continue
        lock = hold(scratch)
        if lock is None:
            continue
        try:
            with deferred(*ENDING), contextlib.suppress(OSError):
                if set(os.listdir(scratch)) <= {NEW, OLD}:
                    if (scratch / OLD).exists() and not os.path.lexists(target):
                        os.replace(scratch / OLD, target)
                    shutil.rmtree(scratch)
        finally:
            os.close(lock)


def hold(folder: Path, wait: bool = False) -> int | None:
    """Lock a folder for as long as this process lives.

    Parameters
    ----------
    folder : Path
    wait : bool
        If another process has it, until that lets go.

    Returns
    -------
    int, optional
        A file descriptor, which holds the lock until it is closed. None if another process has it, or where
        folders have no locks.
    """
    try:
        import fcntl

        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(lock)
        return None
    return lock

"""Files as every room reads and writes them: regular ones, TOML with its place in errors, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from loihi_mmfree.errors import UsageError


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading. A FIFO or a device is refused, not waited for; links are followed.

    Raises
    ------
    OSError
        There is no such file, or it is of another kind.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError as error:  # a name that no file can have
        raise OSError(errno.EINVAL, str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    OSError
        There is no such file, it is of another kind, or it is larger than `limit` bytes.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
        if len(content) > limit:
            size = max(os.fstat(file.fileno()).st_size, len(content))
            raise OSError(errno.EFBIG, f"{size} bytes; at most {limit} are read")
    return content


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Read TOML text; `where` names it in errors.

    Raises
    ------
    UsageError
        It is not TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not valid TOML: {error}") from error


def require_writable(folder: Path, option: str = "") -> None:
    """Refuse a folder in which no file can be made, before the work whose result would go there.

    Raises
    ------
    UsageError
        There is no such folder, or it cannot be written.
    """
    if not folder.is_dir():
        raise UsageError(f"{option} {folder}: no such folder".strip())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {folder}: cannot write there".strip())


@contextlib.contextmanager
def replacing(path: Path, option: str = "") -> Iterator[BinaryIO]:
    """Give a new file to write, which takes the place of `path` when the block ends without an error.

    Whatever ends the block otherwise, an interrupt too, leaves what was there before and nothing else.

    Parameters
    ----------
    path : Path
    option : str
        What asked for the file, for errors.

    Raises
    ------
    UsageError
        The file cannot be written.
    """
    # A name of its own: others may write the same file at the same time.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("w+b") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        if error.filename not in (None, str(partial)):
            raise  # Not ours.
        raise UsageError(f"{option} {path}: not written: {error.strerror}".strip()) from error
    finally:
        partial.unlink(missing_ok=True)


def require_output(path: Path, option: str) -> None:
    """Refuse an output path where no file can be written, before the work whose result goes there.

    Raises
    ------
    UsageError
        It is a folder, or the folder that it would be in cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{option} {path}: is a folder; name a file")
    require_writable(path.absolute().parent, option)


def write_whole(path: Path, content: bytes, option: str = "") -> None:
    """Write a file that appears whole or not at all; `option` names what asked for it in errors.

    Raises
    ------
    UsageError
        The file cannot be written. What was there before is still there.
    """
    with replacing(path, option) as file:
        file.write(content)

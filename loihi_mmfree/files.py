"""Files as every room reads and writes them: regular ones of bounded size, TOML, and files that appear whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from loihi_mmfree.errors import UsageError

LARGEST_SETTINGS_BYTES = 2**20
"""Of a file of settings that a person wrote."""
_CHUNK = 2**20


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
    except ValueError as error:
        raise UsageError(f"{where}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{where}: nested too deeply") from error


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

    Whatever ends the block otherwise, an interrupt too, leaves what was there before and nothing else. Where
    `path` is a link, a FIFO or a device such as /dev/stdout, it stays so, and what was written is written to it.

    Parameters
    ----------
    path : Path
    option : str
        What asked for the file, for errors.

    Raises
    ------
    UsageError
        The file cannot be written, or nobody reads the FIFO.
    """
    if not _is_plain(path):
        require_output(path, option)
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            _write_through(path, file, option)
        return
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


def _write_through(path: Path, content: BinaryIO, option: str) -> None:
    """Write to what is there."""
    try:
        # Without waiting for a reader: there may never be one.
        handle = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        os.set_blocking(handle, True)
        with os.fdopen(handle, "wb") as file:
            shutil.copyfileobj(content, file)
    except OSError as error:
        reason = "nobody reads it" if error.errno == errno.ENXIO else error.strerror
        raise UsageError(f"{option} {path}: not written: {reason}".strip()) from error


def write_whole(path: Path, content: bytes, option: str = "") -> None:
    """Write a file that appears whole or not at all (see `replacing`).

    Raises
    ------
    UsageError
        The file cannot be written. What was there before is still there.
    """
    with replacing(path, option) as file:
        file.write(content)


def open_regular(path: str | Path, folder: int | None = None, *, follow: bool = True) -> io.BufferedReader:
    """Open a regular file; anything else, a FIFO that nobody writes among them, is refused at once.

    Parameters
    ----------
    path : str or Path
    folder : int, optional
        Descriptor of an open folder that a relative path begins at.
    follow : bool
        Whether the last part of the path may be a link.

    Raises
    ------
    OSError
        It cannot be opened, or is no regular file.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags, dir_fd=folder)
    except ValueError as error:  # a name that no file can have
        raise OSError(errno.EINVAL, str(error)) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: str | Path, largest: int, folder: int | None = None, *, follow: bool = True) -> bytes:
    """Read a regular file of at most `largest` bytes.

    Raises
    ------
    OSError
        It cannot be read, is no regular file, or is larger.
    """
    with open_regular(path, folder, follow=follow) as file:
        content = file.read(largest + 1)
        if len(content) > largest:
            size = max(os.fstat(file.fileno()).st_size, len(content))
            raise OSError(errno.EFBIG, f"{size} bytes; at most {largest} are read", str(path))
    return content


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a regular file, as hexadecimal digits.

    Raises
    ------
    OSError
        It cannot be read, or is no regular file.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_text(path: Path, largest: int, option: str = "") -> str:
    """Read a text of the user's; `option` names what asked for it in errors.

    Raises
    ------
    UsageError
        It cannot be read, is too large, or not UTF-8.
    """
    try:
        return read_regular(path, largest).decode("utf-8")
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be read: {error.strerror}".strip()) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{option} {path}: not UTF-8: {error}".strip()) from error


def require_output(path: Path, option: str) -> None:
    """Refuse an output path that `replacing` could not write to, before the work whose result goes there.

    Raises
    ------
    UsageError
        It is a folder, a block device or a socket, or cannot be written.
    """
    if _is_plain(path):
        require_writable(path.absolute().parent, option)
        return
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot write there: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise UsageError(f"{option} {path}: is a folder; name a file")
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise UsageError(f"{option} {path}: is a {'disk' if stat.S_ISBLK(mode) else 'socket'}; name a file")
    if not os.access(path, os.W_OK):
        raise UsageError(f"{option} {path}: cannot write there")


def _is_plain(path: Path) -> bool:
    """Whether there is a regular file, or nothing yet."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return True
    except OSError:
        return False

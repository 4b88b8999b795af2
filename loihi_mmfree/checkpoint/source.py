"""A file of a checkpoint as it was when it was opened, read by the piece and never mapped into memory."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.errors import CheckpointError
from loihi_mmfree.files import open_regular, read_regular
from loihi_mmfree.untrusted import parse_json

_CHUNK = 2**20


@dataclass(frozen=True)
class SourceFile:
    """A regular file of which every read gives the same content, or says that it changed.

    A file that is mapped and then cut short kills the process that looks at it; what is read is only missing.

    Parameters
    ----------
    path : Path
    size : int
        Bytes.
    changed : int
        When its content last changed, in nanoseconds.
    """

    path: Path
    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> SourceFile:
        """Take note of a file.

        Raises
        ------
        CheckpointError
            There is no such file, or it is a FIFO, a device, or a folder.
        """
        try:
            with open_regular(path) as file:
                found = os.fstat(file.fileno())
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
        return cls(path, found.st_size, found.st_mtime_ns)

    def read(self, offset: int, length: int) -> NDArray[np.uint8]:
        """Return `length` bytes from `offset` on, in memory of their own.

        Raises
        ------
        CheckpointError
            The file is gone, changed, or does not reach so far.
        """
        if not 0 <= offset <= offset + length <= self.size:
            raise CheckpointError(
                f"{self.path}: ends after {self.size} bytes, {length} from {offset} on are missing; copy it again"
            )
        content = np.empty(length, np.uint8)
        try:
            with self._open() as file:
                file.seek(offset)
                if file.readinto(content.data) != length:
                    raise self._changed()
        except OSError as error:
            raise self._gone(error) from error
        return content

    def chunks(self) -> Iterator[bytes]:
        """Give the whole content, a piece at a time.

        Raises
        ------
        CheckpointError
            The file is gone or changed.
        """
        left = self.size
        try:
            with self._open() as file:
                while left and (chunk := file.read(min(left, _CHUNK))):
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise self._gone(error) from error
        if left:
            raise self._changed()

    def _open(self) -> io.BufferedReader:
        file = open_regular(self.path)
        found = os.fstat(file.fileno())
        if (found.st_size, found.st_mtime_ns) != (self.size, self.changed):
            file.close()
            raise self._changed()
        return file

    def _changed(self) -> CheckpointError:
        return CheckpointError(f"{self.path}: changed since it was opened; start again when nothing writes to it")

    def _gone(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: the checkpoint cannot be read any more: {error.strerror}; it was there at the beginning"
        )


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """Return the JSON object in a file of at most `limit` bytes.

    Raises
    ------
    CheckpointError
        It is something else.
    """
    try:
        content = parse_json(read_regular(path, limit))
    except OSError as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; expected a JSON object")
    return content

"""A folder of the user's own that holds what is run later: nobody else can put anything there.

A file holds its content behind the SHA-256 of its name and of the content, so neither a damaged one nor one under
another's name is used. The folder may be deleted at any time; what was used least lately goes first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from loihi_mmfree.files import open_regular

_DIGEST_BYTES = hashlib.sha256().digest_size
LARGEST_CONTENT_BYTES = 2**28


class PrivateFolder:
    """An open folder that is the user's own and nobody else's.

    Parameters
    ----------
    path : Path
        Made if it is not there.
    suffix : str
        Of the files it holds; others are left alone.
    most : int
        How many are kept.

    Raises
    ------
    OSError
        It cannot be made or opened, is a link, belongs to somebody else, or others may read or write it.
    """

    def __init__(self, path: Path, suffix: str, most: int) -> None:
        self._suffix, self._most = suffix, most
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(self._handle)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            self.close()
            raise OSError(errno.EACCES, "it must belong to the user who runs this, with mode 700")

    def close(self) -> None:
        """Close it."""
        os.close(self._handle)

    def read(self, name: str) -> bytes | None:
        """Return a content if it is whole, the user's own, and the one of this name."""
        try:
            with open_regular(name, self._handle, follow=False) as file:
                found = os.fstat(file.fileno())
                if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
                    return None
                digest, data = file.read(_DIGEST_BYTES), file.read(LARGEST_CONTENT_BYTES)
                if _digest(name, data) != digest:
                    return None
                with suppress(OSError):
                    os.utime(file.fileno())  # The sweep goes by the time of the last use.
                return data
        except OSError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Put a content in its place all at once: another process may be reading or writing it."""
        temporary = f"{uuid.uuid4().hex}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(temporary, flags, 0o600, dir_fd=self._handle)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_digest(name, data) + data)
            os.replace(temporary, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self._handle)
            raise
        self._sweep()

    def _sweep(self) -> None:
        """Remove all but what was used last; what a killed process left half written goes with them."""
        used = []
        for name in os.listdir(self._handle):
            with suppress(OSError):
                used.append((os.stat(name, dir_fd=self._handle, follow_symlinks=False).st_mtime, name))
        for _, name in sorted(used)[: -self._most]:
            if name.endswith((self._suffix, ".tmp")):
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._handle)


def _digest(name: str, data: bytes) -> bytes:
    return hashlib.sha256(name.encode() + data).digest()

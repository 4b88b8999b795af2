"""Files as every room reads and writes them: TOML with its place in errors, and files that appear whole."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path
from typing import Any

from loihi_mmfree.errors import UsageError


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


def write_whole(path: Path, content: bytes, option: str = "") -> None:
    """Write a file that appears whole or not at all; `option` names what asked for it in errors.

    Raises
    ------
    UsageError
        The file cannot be written. What was there before is still there.
    """
    # A name of its own: others may write the same file at the same time.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UsageError(f"{option} {path}: not written: {error.strerror}".strip()) from error

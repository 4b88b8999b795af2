"""The documentation as it lies on this machine: a wheel carries it, a clone has it beside the package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def manual_folder() -> Path:
    """Return the folder of the documentation's pages."""
    carried = _PACKAGE / "docs"
    return carried if carried.is_dir() else _PACKAGE.parent / "docs"


def manual_page(name: str) -> str:
    """Return the path of a page, for messages that send a reader there."""
    return str(manual_folder() / name)

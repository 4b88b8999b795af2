"""Progress for a person who watches: at a terminal or in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a stage, how much of it is done, and how much there is."""


def watched_progress() -> Progress:
    """Return what shows progress on stderr if a person watches, and else shows nothing."""
    if sys.stderr is None or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        return lambda stage, done, total: None

    def show(stage: str, done: int, total: int) -> None:
        print(f"\r{stage:<12} {done}/{total}", end="\n" if done >= total else "", file=sys.stderr, flush=True)

    return show

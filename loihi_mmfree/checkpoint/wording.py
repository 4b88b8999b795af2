"""How what was found in a file is shown in messages: nothing that a terminal obeys, and no long lists."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 80
MOST_LISTED = 20
LONGEST_INTEGER_BITS = 256
"""Longer ones tell nobody anything, and Python does not print the longest."""


def shown(value: object) -> str:
    """Return a value of a file as it may stand in a message: cut, and without control characters."""
    if isinstance(value, str):
        text = value if value.isprintable() else ascii(value[:LONGEST])
    elif isinstance(value, int) and value.bit_length() > LONGEST_INTEGER_BITS:
        text = f"a number of {value.bit_length()} bits"
    elif value is None or isinstance(value, int | float):
        text = repr(value)
    else:
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def quoted(value: object) -> str:
    """Return a value as `shown`, text in quotation marks."""
    return f"'{shown(value)}'" if isinstance(value, str) else shown(value)


def listed(items: Sequence[str], between: str = ", ", most: int = MOST_LISTED) -> str:
    """Return items one after another; of a long list the first ones, and how many there are more."""
    more = len(items) - most
    return between.join(items if more <= 0 else [*items[:most], f"… and {more} more"])

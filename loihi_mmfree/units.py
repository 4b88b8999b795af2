"""Units as people read them, in messages, tables and pages: prefixes of 1000, the micro sign, a space in front.

A kB is 1000 bytes, a MB 1000 kB, a GB 1000 MB, and a microsecond is 1 µs, everywhere.
"""

from __future__ import annotations

MICRO = "µ"
"""U+00B5, which every font has; not the Greek letter."""
MICROSECONDS, MICROJOULES = f"{MICRO}s", f"{MICRO}J"
MEGABYTE, GIGABYTE = 10**6, 10**9
_LARGER = ("kB", "MB", "GB", "TB")


def bytes_text(number: float) -> str:
    """Return a number of bytes with the unit that leaves one to three digits before the point: 131 kB, 1.05 MB."""
    value, unit = number, "bytes"
    for larger in _LARGER:
        # What would be rounded to 1000 has the next unit already.
        if abs(value) < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "bytes" or abs(value) >= 99.95 else f"{value:.3g} {unit}"


def kilobytes(number: float) -> str:
    """Return a number of bytes in kB, for a column whose heading says so."""
    return f"{number / 1000:,.1f}"

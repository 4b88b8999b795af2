"""Units as people read them: one of each, everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loihi_mmfree.units import bytes_text, kilobytes

ROOT = Path(__file__).parent.parent
TEXTS = sorted(
    path
    for pattern in ("loihi_mmfree/**/*.py", "loihi_mmfree/**/*.jinja", "loihi_mmfree/data/*.toml",
                    "docs/*.md", "benchmarks/*.py", "examples/*.py", "*.md")
    for path in ROOT.glob(pattern)
)  # fmt: skip


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (131_072, "131 kB"),
        (999_400, "999 kB"),
        (999_600, "1 MB"),
        (3_905_000, "3.9 MB"),
        (99_960_000, "100 MB"),
        (25_769_803_776, "25.8 GB"),
        (4e15, "4000 TB"),
    ],
)
def test_bytes_are_counted_in_thousands(number: float, text: str) -> None:
    assert bytes_text(number) == text


def test_a_column_of_kilobytes_is_in_thousands_too() -> None:
    assert kilobytes(131_072) == "131.1"


def test_no_other_way_to_write_a_unit_is_in_use() -> None:
    # KB, KiB and MiB beside kB and MB; us and the Greek letter beside the micro sign.
    others = re.compile(r"\b[KMG]iB\b|\bKB\b|(?<=[\d}] )u[sJ]\b|[\"'(]u[sJ][\"')]|μ")
    assert len(TEXTS) > 100
    found = {str(path.relative_to(ROOT)): others.findall(path.read_text(encoding="utf-8")) for path in TEXTS}
    assert not {name: units for name, units in found.items() if units}

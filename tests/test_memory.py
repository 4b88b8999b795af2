"""What is known of this process's memory, on each system."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from loihi_mmfree.memory import peak_rss_mb

PROCESS = Path("/proc/self/status")


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_counted_in_the_units_of_the_system(
    monkeypatch: pytest.MonkeyPatch, system: str, unit: int
) -> None:
    """getrusage(2): ru_maxrss is in units of 1024 bytes on Linux, of a byte on macOS."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=3 * 10**6 * 1024 // unit))
    assert peak_rss_mb() == 3 * 1024


@pytest.mark.skipif(not PROCESS.is_file(), reason="the system has no /proc to compare with")
def test_peak_memory_is_what_the_system_says_of_this_process() -> None:
    lines = dict(line.split(":", 1) for line in PROCESS.read_text().splitlines())
    system_mb = int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    # A process inherits the peak of the one that started it, which /proc does not count.
    found = peak_rss_mb()
    assert found is not None
    assert 0.9 * system_mb <= found < 64 * system_mb


def test_peak_memory_is_not_known_where_no_module_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_rss_mb() is None

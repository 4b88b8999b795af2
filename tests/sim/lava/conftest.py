"""What the tests of the Lava runtimes share: the helper processes, and the check that a run leaves nothing."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from greenlet import getcurrent, greenlet

# Lava looks a process's module up by its name, and executes every file in its folder.
sys.path.insert(0, str(Path(__file__).parent / "inprocess_nets"))


@pytest.fixture
def nothing_left(shared_memory_names: list[str]) -> Iterator[None]:
    """Checks after the test that no thread, OS process, greenlet or shared memory of it is left."""
    threads = set(threading.enumerate())
    children = set(multiprocessing.active_children())
    yield
    assert set(threading.enumerate()) <= threads
    assert set(multiprocessing.active_children()) <= children
    assert not _living_greenlets()
    assert not [name for name in shared_memory_names if Path("/dev/shm", name).exists()]


def _living_greenlets() -> list[greenlet]:
    return [
        found
        for found in gc.get_objects()
        # isinstance would look through weak proxies, at objects that may be gone.
        if issubclass(type(found), greenlet) and not found.dead and found is not getcurrent()
    ]

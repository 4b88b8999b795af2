"""Scratch folders: what they are for stays whole, and nothing else stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loihi_mmfree.scratch import NEW, OLD, exchange, put_in_place, scratch_beside

KILLED = """
import os, signal, sys
from pathlib import Path
from loihi_mmfree.scratch import scratch_beside
with scratch_beside(Path(sys.argv[1])) as scratch:
    (scratch / "new").mkdir()
    if sys.argv[2] == "moved":
        os.replace(sys.argv[1], scratch / "old")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_one(target: Path, where: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(target), where], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in target.parent.iterdir() if path.name.endswith(".scratch")]


@pytest.mark.parametrize("where", ["making", "moved"])
def test_what_a_killed_process_left_is_swept_and_what_it_had_moved_comes_back(tmp_path: Path, where: str) -> None:
    target = tmp_path / "net"
    target.mkdir()
    (target / "file").write_text("earlier")
    kill_one(target, where)
    with scratch_beside(target):
        assert (target / "file").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_the_scratch_of_a_living_process_and_folders_of_others_stay(tmp_path: Path) -> None:
    others = tmp_path / ".net.mine.scratch"
    others.mkdir()
    (others / "thesis.tex").write_text("precious")
    with scratch_beside(tmp_path / "net") as first:
        with scratch_beside(tmp_path / "net"):
            pass
        assert first.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [others.name]


def test_folders_made_for_a_target_that_never_came_are_removed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ZeroDivisionError), scratch_beside(tmp_path / "there" / "new" / "folders" / "net"):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_folders_made_for_a_target_stay_with_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "net"
    with scratch_beside(target) as scratch:
        (scratch / NEW).mkdir()
        put_in_place(scratch, target)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["net"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two paths in one step")
def test_a_target_is_there_at_every_moment_of_a_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("the target was moved away")

    target = tmp_path / "net"
    target.mkdir()
    with scratch_beside(target) as scratch:
        (scratch / NEW).mkdir()
        (scratch / NEW / "file").write_text("new")
        if not exchange(scratch / NEW, target):
            pytest.skip("the file system cannot exchange two paths")
        assert exchange(scratch / NEW, target)
        monkeypatch.setattr(os, "replace", forbidden)
        put_in_place(scratch, target)
        assert not (scratch / OLD).exists()
    assert (target / "file").read_text() == "new"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_scratch_is_removed_waits_until_it_is_gone(
    tmp_path: Path, ending: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    remove = shutil.rmtree

    def removed_slowly(*arguments: object, **options: object) -> None:
        signal.raise_signal(ending)
        remove(*arguments, **options)

    earlier = signal.signal(ending, end)
    monkeypatch.setattr(shutil, "rmtree", removed_slowly)
    try:
        with pytest.raises(KeyboardInterrupt), scratch_beside(tmp_path / "net"):
            pass
    finally:
        signal.signal(ending, earlier)
    assert list(tmp_path.iterdir()) == []

"""Checkpoints of a training: whole or not there, and the last one that is whole is used."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from loihi_mmfree.errors import UsageError
from loihi_mmfree.train.state import Saved, load_last, save, sweep


def saved(step: int, size: int = 4) -> Saved:
    return Saved(step, {"a": torch.full((size,), float(step))}, {"a/exp_avg": torch.ones(size)})


def refuse(notice: str) -> None:
    raise AssertionError(notice)


def test_the_last_one_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(tmp_path, saved(step))
    found = load_last(tmp_path, refuse)
    assert found is not None
    assert found.step == 15
    torch.testing.assert_close(found.weights, dict(saved(15).weights))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000015"]


def test_there_may_be_none(tmp_path: Path) -> None:
    assert load_last(tmp_path, refuse) is None


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_a_damaged_one_is_told_and_the_one_before_it_used(tmp_path: Path, name: str, harm: str) -> None:
    for step in (5, 10):
        save(tmp_path, saved(step))
    path = tmp_path / "step-00000010" / name
    content = path.read_bytes()
    path.unlink()
    if harm != "gone":
        path.write_bytes(content[:-7] if harm == "cut" else content[:-7] + b"\xff" + content[-6:])
    told: list[str] = []
    found = load_last(tmp_path, told.append)
    assert found is not None
    assert found.step == 5
    assert len(told) == 1
    assert "step-00000010: damaged and not used" in told[0]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    save(tmp_path, saved(5))
    (tmp_path / ".step-00000010.x.scratch" / "new").mkdir(parents=True)
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_full_keeps_the_checkpoints_before(small_disk: Path) -> None:
    save(small_disk, saved(5))
    said = r"step 10 was not written: .*; the last one there is of step 5\. Make room"
    with pytest.raises(UsageError, match=said):
        save(small_disk, saved(10, size=200_000))
    assert [path.name for path in small_disk.iterdir()] == ["step-00000005"]
    found = load_last(small_disk, refuse)
    assert found is not None
    assert found.step == 5

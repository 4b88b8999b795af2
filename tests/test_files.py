"""Files that appear whole or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import write_whole


def test_writers_of_one_file_at_the_same_time_leave_what_one_of_them_wrote(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes([number]) * 200_000 for number in range(8)]
    for _ in range(10):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda content: write_whole(path, content), contents))
        assert path.read_bytes() in contents
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_take_its_place_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    (path / "kept").touch()
    with pytest.raises(UsageError, match=r"--option .*file: not written"):
        write_whole(path, b"new", "--option")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert (path / "kept").exists()

"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import parse_toml, read_regular, require_output, write_whole


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
    with pytest.raises(UsageError, match=r"--option .*file: is a folder"):
        write_whole(path, b"new", "--option")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert (path / "kept").exists()


def test_a_link_stays_and_what_it_names_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old and long")
    (tmp_path / "link").symlink_to("file")
    require_output(tmp_path / "link", "--option")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_device_stays_one(tmp_path: Path) -> None:
    device = Path("/dev/null")
    require_output(device, "--option")
    write_whole(device, b"anything")
    assert device.is_char_device()


def test_a_fifo_is_written_to_and_refused_if_nobody_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(UsageError, match="nobody reads it"):
        write_whole(path, b"x" * 200_000)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(path.read_bytes)
        while not read.done():
            with contextlib.suppress(UsageError):  # The reader is on its way.
                write_whole(path, b"x" * 200_000)
                break
        assert len(read.result()) == 200_000
    assert path.is_fifo()


@pytest.mark.parametrize("path", ["", "/", ".", "nowhere/file", "/dev/null/file"])
def test_what_is_no_place_for_a_file_is_refused_before_the_work(path: str) -> None:
    with pytest.raises(UsageError, match="--option"):
        require_output(Path(path), "--option")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "file")
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(tmp_path / "file", 100)


def test_a_file_of_more_bytes_than_allowed_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 101)
    with pytest.raises(OSError, match="101 bytes; at most 100 are read"):
        read_regular(tmp_path / "file", 100)


@pytest.mark.parametrize("text", ["a = ", "a = " + "[" * 2000, "a = 1\na = 2"])
def test_what_is_not_toml_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="file"):
        parse_toml(text, "file")

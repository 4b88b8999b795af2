"""Logits written as they come are read back as NumPy reads any .npz."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loihi_mmfree.sim.session.logits_file import LogitsFile, combined_crc32


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_checksums_combine_to_that_of_both_contents(first: bytes, second: bytes) -> None:
    both = combined_crc32(zlib.crc32(first), zlib.crc32(second), len(second))
    assert both == zlib.crc32(first + second)


@pytest.mark.parametrize("sizes", [(1,), (3, 1, 64), ()])
def test_numpy_and_zip_read_what_was_written(sizes: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    pieces = [random.integers(-(2**31), 2**31, (size, 7)).astype(np.int32) for size in sizes]
    file = io.BytesIO()
    writer = LogitsFile(file, 7)
    for piece in pieces:
        writer.take(piece)
    writer.finish(range(sum(sizes)), 0.25)
    assert zipfile.ZipFile(file).testzip() is None
    file.seek(0)
    with np.load(file) as found:
        assert set(found.files) == {"ids", "logits", "scale"}
        np.testing.assert_array_equal(found["logits"], np.concatenate([np.zeros((0, 7), np.int32), *pieces]))
        assert found["logits"].dtype == "<i4"
        assert found["ids"].tolist() == list(range(sum(sizes)))
        assert found["ids"].dtype == np.int64
        assert found["scale"] == 0.25


def test_an_archive_beyond_4_gib_is_read(tmp_path: Path) -> None:
    """The rows are a hole in the file, so that it takes neither time nor disk."""
    path, rows, width = tmp_path / "logits.npz", 2**20, 1025
    with path.open("w+b") as file:
        writer = LogitsFile(file, width)
        file.seek(4 * rows * width, io.SEEK_CUR)
        writer._rows = rows
        writer.finish([1], 1.0)
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("logits.npy").file_size > 2**32
        assert np.load(io.BytesIO(archive.read("ids.npy"))).tolist() == [1]


def test_writing_holds_no_more_than_a_piece(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np\n"
        "from loihi_mmfree.memory import peak_rss_mb\n"
        "from loihi_mmfree.sim.session.logits_file import LogitsFile\n"
        "before, piece = peak_rss_mb(), np.ones((64, 4096), dtype=np.int32)\n"
        "with open(sys.argv[1], 'w+b') as file:\n"
        "    writer = LogitsFile(file, 4096)\n"
        "    for _ in range(100):\n"
        "        writer.take(piece)\n"
        "    writer.finish(range(6400), 1.0)\n"
        "print(peak_rss_mb() - before)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "logits.npz")]
    grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (tmp_path / "logits.npz").stat().st_size > 100 * 2**20
    assert float(grown) < 20

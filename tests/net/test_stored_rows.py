"""The embedding stays in its file: read row by row, and never as anything but what was checked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import loihi_mmfree
from loihi_mmfree.errors import ArtifactError
from loihi_mmfree.net.artifact import Net, load_net
from loihi_mmfree.net.stored_rows import StoredRows
from loihi_mmfree.net.tensor_file import read_tensors, write_tensors

TABLE = np.random.default_rng(0).integers(-900, 900, (700, 1000)).astype(np.int16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of a table larger than a piece that is read at a time, and of codes."""
    write_tensors(tmp_path / "file", {"codes": np.arange(6, dtype=np.uint8).reshape(2, 3), "table": TABLE})
    return tmp_path / "file"


@pytest.fixture
def rows(path: Path) -> StoredRows:
    with path.open("rb") as file:
        tensors, _ = read_tensors(file, str(path))
    assert isinstance(tensors["codes"], np.ndarray)
    table = tensors["table"]
    assert isinstance(table, StoredRows)
    return table


@pytest.mark.parametrize("index", [5, -1, [1, 1, 699], slice(2, 9), [[0, 3], [4, 4]], np.zeros(0, dtype=np.int64)])
def test_rows_are_those_of_the_array(rows: StoredRows, index: object) -> None:
    np.testing.assert_array_equal(rows[index], TABLE[index])
    assert rows[index].dtype == TABLE.dtype


def test_what_is_said_of_it_is_what_the_array_says(rows: StoredRows) -> None:
    assert (rows.shape, rows.dtype, rows.ndim, rows.size, rows.nbytes) == (
        *(TABLE.shape, TABLE.dtype, TABLE.ndim, TABLE.size, TABLE.nbytes),
    )
    assert (rows.min(), rows.max(), len(rows)) == (TABLE.min(), TABLE.max(), len(TABLE))
    np.testing.assert_array_equal(np.asarray(rows), TABLE)


def test_a_row_that_is_not_there_is_an_index_error(rows: StoredRows) -> None:
    with pytest.raises(IndexError):
        rows[700]


def test_it_is_read_from_the_file_that_was_opened(path: Path, rows: StoredRows) -> None:
    path.unlink()
    np.testing.assert_array_equal(rows[[3]], TABLE[[3]])


def test_a_file_that_is_cut_or_written_to_is_an_error(path: Path, rows: StoredRows) -> None:
    os.truncate(path, 1000)
    with pytest.raises(ArtifactError, match="file: was changed while it was in use; compile again"):
        rows[[690]]
    path.write_bytes(b"x" * 2_000_000)
    with pytest.raises(ArtifactError, match="was changed while it was in use"):
        rows[[0]]


def test_a_network_that_is_replaced_during_a_run_is_run_to_its_end(tiny_net: Net, tmp_path: Path) -> None:
    place = Path(shutil.copytree(tiny_net.path, tmp_path / "net"))
    with loihi_mmfree.stream(load_net(place), [1, 2], 6, backend="engine", stop_at_end_of_text=False) as stream:
        next(stream)
        shutil.rmtree(place)
        rest = list(stream)
    assert len(rest) == 5

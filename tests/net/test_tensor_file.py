"""Files of integer tensors: written without a copy of the whole, read into one piece of memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file, save

from loihi_mmfree.net.tensor_file import read_tensors, write_tensors

TENSORS = st.dictionaries(
    st.text("abc.", min_size=1, max_size=6),
    st.sampled_from([np.uint8, np.int16, np.int32]).flatmap(
        lambda kind: arrays(kind, array_shapes(min_dims=1, max_dims=2, max_side=5))
    ),
    max_size=6,
)


@given(tensors=TENSORS)
def test_a_file_is_what_the_safetensors_library_writes(
    tensors: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "tensors.safetensors"
    write_tensors(path, tensors)
    assert path.read_bytes() == save(tensors)


def test_what_was_written_is_read_back_as_the_library_reads_it(tmp_path: Path) -> None:
    tensors = {"codes": np.arange(6, dtype=np.uint8).reshape(2, 3), "table": np.array([-5, 7], dtype=np.int32)}
    write_tensors(tmp_path / "file", tensors)
    with (tmp_path / "file").open("rb") as file:
        read, sha256 = read_tensors(file, "file")
    assert sha256 == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
    for found in (load_file(tmp_path / "file"), read):
        assert found.keys() == tensors.keys()
        assert all(np.array_equal(found[name], tensors[name]) for name in tensors)
    with pytest.raises(ValueError, match="read-only"):
        read["table"][0] = 1


def test_a_transposed_tensor_is_written_in_its_own_order(tmp_path: Path) -> None:
    tensor = np.arange(6, dtype=np.int16).reshape(2, 3).T
    write_tensors(tmp_path / "file", {"t": tensor})
    assert np.array_equal(load_file(tmp_path / "file")["t"], tensor)

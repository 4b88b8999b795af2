"""Tensors of a safetensors file as read-only views of the file: nothing is read before it is used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

_LENGTH_BYTES = 8
_TYPES = {"U8": "<u1", "I16": "<i2", "I32": "<i4"}


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """Map a safetensors file of 8-bit unsigned and 16- and 32-bit signed integers.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict name -> read-only array
        Views of one memory map; processes that map the same file share its pages.

    Raises
    ------
    ValueError
        The file is damaged, or holds a tensor of another type.
    OSError
        It cannot be read.
    """
    try:
        # The library checks the header: its length, and that the tensors fill the file without overlap.
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    content = np.memmap(path, dtype=np.uint8, mode="r")
    length = int(content[:_LENGTH_BYTES].view("<u8")[0])
    start = _LENGTH_BYTES + length
    header = json.loads(content[_LENGTH_BYTES:start].tobytes())
    header.pop("__metadata__", None)
    return {name: _view(content[start:], name, each) for name, each in header.items()}


def _view(data: np.ndarray, name: str, entry: dict[str, list[int]]) -> np.ndarray:
    """One tensor as a view of the file's data part."""
    stored_type = _TYPES.get(str(entry["dtype"]))
    if stored_type is None:
        raise ValueError(f"tensor {name} is of type {entry['dtype']}, expected one of {', '.join(_TYPES)}")
    begin, end = entry["data_offsets"]
    # A view as a plain array: a memmap of every tensor would cost a Python object with a file behind it.
    return np.asarray(data[begin:end]).view(stored_type).reshape(entry["shape"])

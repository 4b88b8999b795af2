"""Safetensors files of integers: written tensor by tensor, read as views of the file.

The library's own functions hold the whole file in memory once or twice; a network of billions of weights
should take no more than it has to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

_LENGTH_BYTES = 8
_TYPES = {"U8": "<u1", "I16": "<i2", "I32": "<i4"}


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file; equal tensors give equal bytes.

    Parameters
    ----------
    path : Path
    tensors : mapping name -> uint8, int16 or int32 array

    Raises
    ------
    OSError
        The file cannot be written.
    """
    codes = {stored: code for code, stored in _TYPES.items()}
    # The widest first, so that every tensor begins at a multiple of its element.
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header, end = {}, 0
    for name in order:
        tensor, begin = tensors[name], end
        end += tensor.nbytes
        stored = tensor.dtype.newbyteorder("<").str.replace("|", "<")
        header[name] = {"dtype": codes[stored], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for name in order:
            tensor = np.ascontiguousarray(tensors[name])
            file.write(tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).data)


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

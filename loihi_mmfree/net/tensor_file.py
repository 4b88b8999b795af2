"""Safetensors files of integers: written tensor by tensor, and read so, but for the embedding.

The library's own functions hold the whole file in memory once or twice; a network of billions of weights
should take no more than it has to. A file is read and not mapped: a map of a file that somebody cuts short ends
the process with SIGBUS, and shows bytes that nobody has checked if somebody writes into it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from loihi_mmfree.memory import require_memory
from loihi_mmfree.net.stored_rows import StoredRows
from loihi_mmfree.untrusted import parse_json, short

LARGEST_HEADER_BYTES = 2**24
_LENGTH_BYTES = 8
_CHUNK = 2**20
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


def read_tensors(file: BinaryIO, name: str) -> tuple[dict[str, Any], str]:
    """Read a safetensors file of 8-bit unsigned and 16- and 32-bit signed integers.

    Parameters
    ----------
    file : binary file
        A regular one, at its beginning.
    name : str
        What to call it in errors.

    Returns
    -------
    tensors : dict name -> read-only array
        Processes forked from this one share them. A matrix of more than 8 bits an entry, which is an embedding,
        stays in the file: `StoredRows`.
    sha256 : str
        Of the very bytes that were read.

    Raises
    ------
    ValueError
        The file is damaged, changes while it is read, or holds a tensor of another type.
    OutOfMemoryError
        It is larger than the memory that is left.
    """
    size = os.fstat(file.fileno()).st_size
    begin = file.read(_LENGTH_BYTES)
    length = int.from_bytes(begin, "little")
    if size < _LENGTH_BYTES or length > min(LARGEST_HEADER_BYTES, size - _LENGTH_BYTES):
        raise ValueError(f"its header says {length} bytes, the file has {size}")
    digest, text = hashlib.sha256(begin), file.read(length)
    digest.update(text)
    header = parse_json(text)
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    header.pop("__metadata__", None)
    order = _in_order(header, size - _LENGTH_BYTES - length)
    held = sum(_bytes(entry) for entry in order.values() if not _stays(entry))
    require_memory(held, name, "use a machine with more")
    tensors = {each: _read_tensor(file, name, entry, digest) for each, entry in order.items()}
    return {each: tensors[each] for each in header}, digest.hexdigest()


def _stays(entry: Mapping[str, Any]) -> bool:
    """Whether a tensor stays in the file."""
    return len(entry["shape"]) == 2 and entry["dtype"] != "U8"


def _bytes(entry: Mapping[str, Any]) -> int:
    begin, end = entry["data_offsets"]
    return int(end - begin)


def _read_tensor(file: BinaryIO, name: str, entry: Mapping[str, Any], digest: Any) -> Any:
    """Read a tensor, each piece hashed while it is in the processor's cache."""
    dtype, left, offset = np.dtype(_TYPES[entry["dtype"]]), _bytes(entry), file.tell()
    stays = _stays(entry)
    content = np.empty(min(left, _CHUNK) if stays else left, dtype=np.uint8)
    low, high, done = 0, 0, 0
    while left:
        # Chunks are whole numbers of entries.
        piece = content[: min(left, _CHUNK)] if stays else content[done : done + _CHUNK]
        if file.readinto(piece.data) != len(piece):  # type: ignore[attr-defined]
            raise ValueError("was cut while it was read")
        digest.update(piece.data)
        if stays:
            found = piece.view(dtype)
            ends = int(found.min()), int(found.max())
            low, high = (min(low, ends[0]), max(high, ends[1])) if done else ends
        left, done = left - len(piece), done + len(piece)
    if stays:
        return StoredRows(file.fileno(), name, offset, dtype, tuple(entry["shape"]), (low, high))
    content.flags.writeable = False
    return content.view(dtype).reshape(entry["shape"])


def _in_order(header: Mapping[str, Any], size: int) -> Mapping[str, Any]:
    """The tensors as they fill `size` bytes one after the other, each as large as its shape; else a ValueError."""
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"tensor {short(name)} has not just dtype, shape and data_offsets")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _TYPES:
            kinds = ", ".join(_TYPES)
            raise ValueError(f"tensor {short(name)} is of type {short(entry['dtype'])}, expected one of {kinds}")
        offsets = entry["data_offsets"]
        if not _are_sizes(entry["shape"]) or not _are_sizes(offsets) or len(offsets) != 2:
            raise ValueError(f"tensor {short(name)}: shape and data_offsets must be lists of whole numbers")
    end, order = 0, dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"]))
    for name, entry in order.items():
        itemsize = np.dtype(_TYPES[entry["dtype"]]).itemsize
        begin, stop = entry["data_offsets"]
        if begin != end or begin % itemsize or stop - begin != itemsize * math.prod(entry["shape"]):
            raise ValueError(f"tensor {short(name)}: shape {entry['shape']} does not fill bytes {begin} to {stop}")
        end = stop
    if end != size:
        raise ValueError(f"its tensors take {end} bytes, it holds {size}")
    return order


def _are_sizes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 4
        and all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**40 for each in value)
    )

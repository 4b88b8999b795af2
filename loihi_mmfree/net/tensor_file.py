"""Safetensors files of integers: written tensor by tensor, read as views of one piece of memory.

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
from numpy.typing import NDArray

from loihi_mmfree.memory import require_memory
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


def read_tensors(file: BinaryIO, name: str) -> tuple[dict[str, NDArray[Any]], str]:
    """Read a safetensors file of 8-bit unsigned and 16- and 32-bit signed integers.

    Parameters
    ----------
    file : binary file
        A regular one, at its beginning.
    name : str
        What to call it where memory runs out.

    Returns
    -------
    tensors : dict name -> read-only array
        Views of one piece of memory, which processes forked from this one share.
    sha256 : str
        Of the very bytes that the tensors are views of.

    Raises
    ------
    ValueError
        The file is damaged, changes while it is read, or holds a tensor of another type.
    OutOfMemoryError
        It is larger than the memory that is left.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if size < _LENGTH_BYTES or length > min(LARGEST_HEADER_BYTES, size - _LENGTH_BYTES):
        raise ValueError(f"its header says {length} bytes, the file has {size}")
    file.seek(0)
    require_memory(size, name, "use a machine with more")
    content, sha256 = _read_whole(file, size)
    start = _LENGTH_BYTES + length
    header = parse_json(content[_LENGTH_BYTES:start].tobytes())
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    header.pop("__metadata__", None)
    _check_places(header, size - start)
    content.flags.writeable = False
    return {each: _view(content[start:], entry) for each, entry in header.items()}, sha256


def _read_whole(file: BinaryIO, size: int) -> tuple[NDArray[np.uint8], str]:
    """The bytes of a file and their SHA-256, each piece hashed while it is in the processor's cache."""
    content, digest, done = np.empty(size, dtype=np.uint8), hashlib.sha256(), 0
    memory = content.data
    while done < size:
        piece = memory[done : done + _CHUNK]
        read = file.readinto(piece)  # type: ignore[attr-defined]
        if not read:
            raise ValueError(f"was cut to {done} of {size} bytes while it was read")
        digest.update(piece[:read])
        done += read
    return content, digest.hexdigest()


def _check_places(header: Mapping[str, Any], size: int) -> None:
    """Raise ValueError unless the tensors fill `size` bytes one after the other, each as large as its shape."""
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"tensor {short(name)} has not just dtype, shape and data_offsets")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _TYPES:
            kinds = ", ".join(_TYPES)
            raise ValueError(f"tensor {short(name)} is of type {short(entry['dtype'])}, expected one of {kinds}")
        offsets = entry["data_offsets"]
        if not _are_sizes(entry["shape"]) or not _are_sizes(offsets) or len(offsets) != 2:
            raise ValueError(f"tensor {short(name)}: shape and data_offsets must be lists of whole numbers")
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        itemsize = np.dtype(_TYPES[entry["dtype"]]).itemsize
        begin, stop = entry["data_offsets"]
        if begin != end or begin % itemsize or stop - begin != itemsize * math.prod(entry["shape"]):
            raise ValueError(f"tensor {short(name)}: shape {entry['shape']} does not fill bytes {begin} to {stop}")
        end = stop
    if end != size:
        raise ValueError(f"its tensors take {end} bytes, it holds {size}")


def _are_sizes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 4
        and all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**40 for each in value)
    )


def _view(data: NDArray[np.uint8], entry: Mapping[str, Any]) -> NDArray[Any]:
    """One tensor as a view of the file's data part."""
    begin, end = entry["data_offsets"]
    return data[begin:end].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])

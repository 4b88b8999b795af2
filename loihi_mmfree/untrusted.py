"""Data from strangers: JSON and npz files within bounds, and names that are fit to be shown."""

from __future__ import annotations

import io
import json
import math
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_JSON_VALUES = 2**20
"""In one text: each takes up to a hundred bytes of memory, however short it is written."""
LARGEST_ARRAYS_BYTES = 2**28
"""Of all arrays of an npz file together, unpacked."""
MOST_MEMBERS = 2**16
"""Members of an npz file at most."""
_NAMES_SHOWN, _LINES_SHOWN = 5, 10
_NPY_MAGIC = b"\x93NUMPY"
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<|][iu][1248]|<f[248]|<U\d{1,8})', 'fortran_order': (False|True), "
    rb"'shape': \(((?:\d{1,18}, ?)*\d{0,18})\), \} *\n"
)


def some_of(names: Iterable[str]) -> str:
    """Return a list for a message: the first names, cut to a line each, and how many more there are."""
    every = list(names)
    shown = ", ".join(each if len(each) <= 100 else f"{each[:100]}…" for each in every[:_NAMES_SHOWN])
    return shown if len(every) <= _NAMES_SHOWN else f"{shown} and {len(every) - _NAMES_SHOWN} more"


def short(value: Any) -> str:
    """Return a value as Python writes it, cut for a message."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def cut(text: object) -> str:
    """Return a message of at most ten lines, none longer than a few hundred characters."""
    lines = str(text).split("\n")
    more = [f"… and {len(lines) - _LINES_SHOWN} lines more"] if len(lines) > _LINES_SHOWN else []
    return "\n".join([each if len(each) <= 500 else f"{each[:500]}…" for each in lines[:_LINES_SHOWN]] + more)


def parse_json(text: bytes, most_values: int = MOST_JSON_VALUES) -> Any:
    """Read JSON as its standard has it: UTF-8, no NaN, no key twice, nested within reason.

    Parameters
    ----------
    text : bytes
    most_values : int
        How many values it may hold; they are counted before any is made.

    Raises
    ------
    ValueError
        It is something else, or holds more.
    """
    values = sum(text.count(each) for each in (b"{", b"[", b","))
    if values > most_values:
        raise ValueError(f"about {values} values; at most {most_values} are read")
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def parse_npy(data: bytes) -> NDArray[Any]:
    """Read an array of numbers or texts as numpy.save writes it, without evaluating its header.

    Raises
    ------
    ValueError
        It is something else, of other numbers, or longer or shorter than its header says.
    """
    # Whoever reads JSON does without NumPy, and commands start before it is known that it can.
    import numpy as np

    if data[:6] != _NPY_MAGIC or data[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise ValueError("not an array as numpy.save writes it")
    length_bytes = 2 if data[6] == 1 else 4
    start = 8 + length_bytes
    end = start + int.from_bytes(data[8:start], "little")
    header = _NPY_HEADER.fullmatch(data[start:end])
    if header is None:
        raise ValueError("not an array of numbers or texts")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(each) for each in header[3].replace(b",", b" ").split())
    if dtype.itemsize * math.prod(shape) != len(data) - end:
        raise ValueError(f"{len(data) - end} bytes of data, its header says {shape} of {dtype}")
    array: NDArray[Any] = np.ndarray(shape, dtype, data, end, order="F" if header[2] == b"True" else "C")
    if dtype.kind == "U" and array.size and dtype.itemsize:
        points = np.frombuffer(data, "<u4", offset=end)
        if points.max() > sys.maxunicode or np.any((points >= 0xD800) & (points < 0xE000)):
            raise ValueError("not an array of texts: what stands in it is no character")
    return array


def parse_npz(data: bytes, largest: int = LARGEST_ARRAYS_BYTES) -> Mapping[str, NDArray[Any]]:
    """Read the arrays of an npz file of numbers or texts.

    Parameters
    ----------
    data : bytes
        The file.
    largest : int
        Bytes of all arrays together, unpacked.

    Raises
    ------
    ValueError
        It is something else, damaged, or unpacks to more.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len({each.filename for each in members}) < len(members) or len(members) > MOST_MEMBERS:
                raise ValueError("a name stands twice in it, or there are too many")
            if sum(each.file_size for each in members) > largest:
                raise ValueError(f"unpacks to more than {largest} bytes")
            return {each.filename.removesuffix(".npy"): parse_npy(_member(archive, each)) for each in members}
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OSError) as error:
        raise ValueError(f"not an npz file: {error}") from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """What a member holds; of one that unpacks to more than it says no more is unpacked."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("not an npz file: packed in an unknown way")
    with archive.open(member) as file:
        content = file.read(member.file_size) if member.file_size else b""
    if len(content) != member.file_size:
        raise ValueError("not an npz file: it ends too early")
    return content

"""Logits on disk as they come: a .npz whose largest array is written row by row, its length filled in at the end.

NumPy writes an array only when all of it is there. Here the member `logits.npy` comes first in the archive, behind
room for headers of fixed size; its checksum is put together from those of header and rows.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_LOCAL, _CENTRAL, _END, _END64, _LOCATOR = b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7"
_VERSION = 45
"""Of the format, the first with sizes of 64 bits, which every member has."""
_DATE = 1 << 5 | 1
"""1 January 1980, the beginning of time: the same run gives the same bytes."""
_FULL = 0xFFFF_FFFF
_CRC_POLYNOMIAL = 0xEDB8_8320
_HEADER_BYTES = 192
"""Of an array in NumPy's format; a multiple of 64."""


class LogitsFile:
    """Writes `logits` int32 [T, V], then `ids` [T] and `scale`, as `numpy.load` reads them.

    Parameters
    ----------
    file : binary file
        Empty; positions in it can be sought.
    vocab_size : int
    """

    def __init__(self, file: BinaryIO, vocab_size: int) -> None:
        self._file, self._width = file, vocab_size
        self._rows, self._checksum = 0, 0
        self._members: list[tuple[bytes, int, int, int]] = []
        file.write(_local_header(b"logits.npy", 0, 0) + bytes(_HEADER_BYTES))

    def take(self, logits: NDArray[np.int32]) -> None:
        """Write the logits [t, V] of some tokens."""
        content = np.ascontiguousarray(logits, dtype="<i4").data.cast("B")
        self._checksum = zlib.crc32(content, self._checksum)
        self._file.write(content)
        self._rows += len(logits)

    def finish(self, ids: Sequence[int], scale: float) -> None:
        """Write what is known only now: the ids that were read, one a row, and the real value of a unit."""
        header = _array_header((self._rows, self._width))
        bytes_of_rows = 4 * self._rows * self._width
        checksum = combined_crc32(zlib.crc32(header), self._checksum, bytes_of_rows)
        size = _HEADER_BYTES + bytes_of_rows
        self._file.seek(0)
        self._file.write(_local_header(b"logits.npy", checksum, size) + header)
        self._members.append((b"logits.npy", checksum, size, 0))
        self._file.seek(0, io.SEEK_END)
        self._add(b"ids.npy", np.array(ids, dtype=np.int64))
        self._add(b"scale.npy", np.float64(scale))
        self._end()

    def _add(self, name: bytes, array: np.ndarray | np.generic) -> None:
        buffer = io.BytesIO()
        np.save(buffer, array)
        content, begin = buffer.getvalue(), self._file.tell()
        self._members.append((name, zlib.crc32(content), len(content), begin))
        self._file.write(_local_header(name, zlib.crc32(content), len(content)) + content)

    def _end(self) -> None:
        """Write the directory of the archive."""
        begin, count = self._file.tell(), len(self._members)
        for name, checksum, size, place in self._members:
            extra = struct.pack("<HHQQQ", 1, 24, size, size, place)
            fields = _VERSION, _VERSION, 0, 0, 0, _DATE, checksum, _FULL, _FULL, len(name), len(extra)
            self._file.write(struct.pack("<4s6H3L5H2L", _CENTRAL, *fields, 0, 0, 0, 0, _FULL) + name + extra)
        end = self._file.tell()
        fields64 = 44, _VERSION, _VERSION, 0, 0, count, count, end - begin, begin
        self._file.write(struct.pack("<4sQ2H2L4Q", _END64, *fields64))
        self._file.write(struct.pack("<4sLQL", _LOCATOR, 0, end, 1))
        self._file.write(struct.pack("<4s4H2LH", _END, 0, 0, count, count, _FULL, _FULL, 0))


def _local_header(name: bytes, checksum: int, size: int) -> bytes:
    """What stands in front of a member that is stored as it is."""
    extra = struct.pack("<HHQQ", 1, 16, size, size)
    fields = _VERSION, 0, 0, 0, _DATE, checksum, _FULL, _FULL, len(name), len(extra)
    return struct.pack("<4s5H3L2H", _LOCAL, *fields) + name + extra


def _array_header(shape: tuple[int, int]) -> bytes:
    """The header of an int32 array in NumPy's format 1.0, filled up to its fixed size."""
    text = repr({"descr": "<i4", "fortran_order": False, "shape": shape}).encode()
    text = text.ljust(_HEADER_BYTES - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def combined_crc32(first: int, second: int, length: int) -> int:
    """Return the CRC-32 of two contents behind each other, from that of each and the bytes of the second.

    A CRC is the remainder of a polynomial over two elements: the first one's is multiplied by x^(8 length).
    """
    power, square = 1 << 31, 1 << 23
    while length:
        if length & 1:
            power = _product(power, square)
        square, length = _product(square, square), length >> 1
    return _product(power, first) ^ second


def _product(one: int, other: int) -> int:
    """The product of two polynomials modulo that of CRC-32; the highest bit is the coefficient of 1."""
    found = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            found ^= other
        other = other >> 1 ^ (_CRC_POLYNOMIAL if other & 1 else 0)
    return found

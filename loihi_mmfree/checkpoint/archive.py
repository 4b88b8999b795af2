"""The zip archive that `torch.save` writes: names, and where their content lies in the file.

Python's zipfile builds an object for every entry, however many a file claims, and does not say where content
begins. `torch.save` stores and never compresses, so an entry is a piece of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from loihi_mmfree.checkpoint.source import SourceFile
from loihi_mmfree.checkpoint.wording import quoted
from loihi_mmfree.errors import CheckpointError

MOST_ENTRIES = 2**17
LARGEST_DIRECTORY_BYTES = 32 * 2**20
_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
_LONGEST_COMMENT = 2**16
_NONE_32 = 2**32 - 1


@dataclass(frozen=True)
class Entry:
    """A file within the archive.

    Parameters
    ----------
    header : int
        Where its local header begins.
    size : int
        Bytes of its content.
    compressed : bool
        Whether it is anything but stored.
    """

    header: int
    size: int
    compressed: bool


def read_directory(source: SourceFile) -> dict[str, Entry]:
    """Return the entries of an archive by name.

    Raises
    ------
    CheckpointError
        It is damaged, or has more entries than any checkpoint.
    """
    try:
        begin, length, count = _directory_place(source)
        if count > MOST_ENTRIES or length > LARGEST_DIRECTORY_BYTES:
            raise ValueError(f"{count} entries; at most {MOST_ENTRIES} are read")
        return _entries(source.read(begin, length).tobytes(), count)
    except (ValueError, struct.error) as error:
        raise CheckpointError(f"{source.path}: damaged PyTorch file ({error}); copy it again") from error


def content_offset(source: SourceFile, name: str, entry: Entry) -> int:
    """Return where the content of an entry begins in the file.

    Raises
    ------
    CheckpointError
        It is damaged or compressed.
    """
    if entry.compressed:
        raise CheckpointError(
            f"{source.path}: {quoted(name)} is compressed, as torch.save does not write it; save it again"
        )
    header = source.read(entry.header, 30).tobytes()
    if not header.startswith(_LOCAL):
        raise CheckpointError(f"{source.path}: damaged PyTorch file ({quoted(name)} is missing); copy it again")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    return entry.header + 30 + name_length + extra_length


def _directory_place(source: SourceFile) -> tuple[int, int, int]:
    """Offset and length of the directory, and how many entries it has."""
    start = max(0, source.size - _LONGEST_COMMENT - 22)
    tail = source.read(start, source.size - start).tobytes()
    end = tail.rfind(_END)
    if end < 0:
        raise ValueError("it ends without the directory of a zip archive")
    count, length, begin = struct.unpack("<HII", tail[end + 10 : end + 20])
    locator = start + end - 20
    if locator >= 0:
        record = source.read(locator, 20).tobytes()
        if record.startswith(_LOCATOR_64):
            (place,) = struct.unpack("<Q", record[8:16])
            long_end = source.read(place, 56).tobytes()
            if not long_end.startswith(_END_64):
                raise ValueError("its directory is missing")
            count, length, begin = struct.unpack("<QQQ", long_end[32:56])
    return begin, length, count


def _entries(directory: bytes, count: int) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    position = 0
    for _ in range(count):
        if directory[position : position + 4] != _ENTRY:
            raise ValueError("its directory is cut off")
        flags, method = struct.unpack_from("<HH", directory, position + 8)
        packed, size, name_length, extra_length, comment_length = struct.unpack_from(
            "<IIHHH", directory, position + 20
        )
        (header,) = struct.unpack_from("<I", directory, position + 42)
        after_name = position + 46 + name_length
        # A name that is not UTF-8 is a ValueError, and no torch.save wrote it.
        name = directory[position + 46 : after_name].decode("utf-8")
        extra = directory[after_name : after_name + extra_length]
        size, packed, header = _wide(extra, size, packed, header)
        if name in found:
            raise ValueError(f"{quoted(name)} occurs twice")
        found[name] = Entry(header, size, method != 0 or packed != size or bool(flags & 1))
        position = after_name + extra_length + comment_length
    return found


def _wide(extra: bytes, *values: int) -> tuple[int, ...]:
    """Sizes and offset, those that do not fit 32 bits from the zip64 field."""
    wide = list(values)
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == 1:
            field = extra[position + 4 : position + 4 + length]
            numbers = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            wide = [next(numbers, value) if value == _NONE_32 else value for value in wide]
        position += 4 + length
    return tuple(wide)

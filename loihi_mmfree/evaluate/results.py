"""The results file: JSON lines, a header and then one line for every batch, whole or not at all.

What is there is not computed again; a line that was cut short by an interruption is removed. Several processes
write a file each, and whoever ends last joins them.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.records import Sums
from loihi_mmfree.evaluate.texts import Item
from loihi_mmfree.files import read_regular, require_output, write_whole
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.scratch import hold
from loihi_mmfree.untrusted import parse_json, short

SCHEMA_VERSION = 1
LARGEST_RESULTS_BYTES = 2**30
_OPTION = "`results`"


@dataclass(frozen=True)
class Share:
    """Which part of the items a process computes: every `size`-th, from `rank` on."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Share:
        """Return what RANK and WORLD_SIZE say, as torchrun and Accelerate set them; all without them.

        Raises
        ------
        UsageError
            They are no such numbers.
        """
        rank, size = environment.get("RANK", "0"), environment.get("WORLD_SIZE", "1")
        if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
            raise UsageError(
                f"RANK is {rank!r} and WORLD_SIZE {size!r}; expected whole numbers, 0 to WORLD_SIZE - 1"
            )
        return cls(int(rank), int(size))

    def of(self, count: int) -> range:
        """Return the numbers of this process's items of so many."""
        return range(self.rank, count, self.size)


@dataclass
class Found:
    """What is known: sums of the texts of each item by its number, and what was counted."""

    sums: dict[int, tuple[Sums, ...]]
    counters: Counters

    def add(self, sums: Mapping[int, tuple[Sums, ...]], counters: Counters, where: str) -> None:
        """Add a batch.

        Raises
        ------
        UsageError
            An item is there already: it would count twice.
        """
        twice = self.sums.keys() & sums.keys()
        if twice:
            raise UsageError(f"{where}: item {min(twice)} stands twice; begin again with another file")
        self.sums.update(sums)
        self.counters.add(counters)


class Results:
    """What was computed, in memory and in a file if there is one.

    Parameters
    ----------
    path : Path, optional
    header : mapping
        What tells this evaluation from others: hashes and settings, as JSON.
    items : sequence of Item
    share : Share

    Raises
    ------
    UsageError
        The file is of another evaluation or damaged, cannot be written, or is missing where there are several
        processes.
    """

    def __init__(self, path: Path | None, header: Mapping[str, Any], items: Sequence[Item], share: Share) -> None:
        if path is None and share.size > 1:
            raise UsageError(
                f"WORLD_SIZE is {share.size}: name a file (`results=FILE`), by which the processes join"
            )
        if path is not None:
            require_output(path, _OPTION)
        self._path, self._items, self._share = path, items, share
        self._header = {"schema_version": SCHEMA_VERSION, **json.loads(json.dumps(header))}
        self._file: io.BufferedRandom | None = None
        self.found = Found({}, Counters()) if path is None else self._read_all(path)
        self._complete_before = len(self.found.sums) == len(items)

    @property
    def mine(self) -> int:
        """Number of this process's items."""
        return len(self._share.of(len(self._items)))

    @property
    def left(self) -> list[int]:
        """Items that this process has still to compute."""
        return [number for number in self._share.of(len(self._items)) if number not in self.found.sums]

    def append(self, sums: Mapping[int, tuple[Sums, ...]], counters: Counters) -> None:
        """Keep a batch, on disk before the call returns.

        Raises
        ------
        UsageError
            The file cannot be written. What it held before is still there.
        """
        self.found.add(sums, counters, "the evaluation")
        if self._path is None:
            return
        if self._file is None:
            self._file = self._open(self._path)
        try:
            self._file.write(_line(sums, counters))
            self._file.flush()
        except OSError as error:
            raise self._error(
                f"not written: {error.strerror}; what it held is kept, begin again to go on"
            ) from error

    def finish(self) -> Found | None:
        """Join what all processes found, if this is the last to end; None if others have yet to, or did it."""
        if self._path is None:
            return self.found
        lock = hold(self._path.absolute().parent, wait=True)
        try:
            parts = self._parts(self._path)
            found = self._read_all(self._path)
            if len(found.sums) < len(self._items):
                return None
            if not parts:
                return (
                    found if self._share.size == 1 or (self._complete_before and self._share.rank == 0) else None
                )
            ordered = dict(sorted(found.sums.items()))
            write_whole(self._path, _json(self._header) + _line(ordered, found.counters), _OPTION)
            for part in parts:
                part.unlink(missing_ok=True)
            return found
        finally:
            if lock is not None:
                os.close(lock)
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _own(self, path: Path) -> Path:
        """The file that this process writes."""
        share = self._share
        return path if share.size == 1 else path.with_name(f"{path.name}.part-{share.rank}-of-{share.size}")

    @staticmethod
    def _parts(path: Path) -> list[Path]:
        """The files of processes that share the work, also of runs before with another number of them."""
        begin = f"{path.name}.part-"
        return sorted(each for each in path.absolute().parent.iterdir() if each.name.startswith(begin))

    def _open(self, path: Path) -> io.BufferedRandom:
        """Open this process's file behind its last whole line, locked; with a header if it is new."""
        import fcntl

        own = self._own(path)
        file: io.BufferedRandom | None = None
        try:
            file = own.open("a+b")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.seek(0)
            file.truncate(_whole(file.read()))
            if file.seek(0, os.SEEK_END) == 0:
                file.write(_json(self._header))
            return file
        except BlockingIOError as error:
            assert file is not None
            file.close()
            raise self._error("another evaluation writes to it; wait for that, or name another file") from error
        except OSError as error:
            raise self._error(f"not written: {error.strerror}") from error

    def _read_all(self, path: Path) -> Found:
        found = Found({}, Counters())
        for each in ([path] if path.exists() else []) + self._parts(path):
            try:
                content = read_regular(each, LARGEST_RESULTS_BYTES)
            except FileNotFoundError:  # joined meanwhile by another process
                continue
            except OSError as error:
                raise self._error(f"cannot be read: {error.strerror}") from error
            self._read(content[: _whole(content)], str(each), found)
        return found

    def _read(self, content: bytes, where: str, found: Found) -> None:
        lines = content.split(b"\n")[:-1]
        if not lines:
            return
        try:
            self._check_header(parse_json(lines[0]), where)
            for line in lines[1:]:
                found.add(*self._batch(parse_json(line)), where)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{_OPTION} {where}: not a results file, or damaged: {error}; name another file"
            ) from error

    def _check_header(self, header: Any, where: str) -> None:
        if not isinstance(header, dict) or "schema_version" not in header:
            raise ValueError("it has no header")
        if header == self._header:
            return
        other = [key for key in self._header.keys() | header.keys() if header.get(key) != self._header.get(key)]
        listed = "; ".join(
            f"{key} {short(header.get(key))}, here {short(self._header.get(key))}" for key in sorted(other)
        )
        raise UsageError(f"{_OPTION} {where}: results of another evaluation: {listed}; name another file")

    def _batch(self, line: Mapping[str, Any]) -> tuple[dict[int, tuple[Sums, ...]], Counters]:
        sums = {int(number): tuple(map(Sums.from_list, texts)) for number, texts in line["items"].items()}
        for number, texts in sums.items():
            expected = [text.predicted for text in self._items[number].texts] if number < len(self._items) else []
            if number < 0 or [each.tokens for each in texts] != expected:
                raise ValueError(f"item {number} is not one of these texts")
        counters = [line["saturations"], line["overflows"]]
        if not all(type(each) is int and each >= 0 for each in counters):
            raise ValueError(f"counted {short(counters)}; expected whole numbers")
        return sums, Counters(*counters)

    def _error(self, what: str) -> UsageError:
        return UsageError(f"{_OPTION} {self._path}: {what}")


def batches(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Give the items of one batch after the other."""
    for begin in range(0, len(numbers), size):
        yield numbers[begin : begin + size]


def _whole(content: bytes) -> int:
    """How many bytes the whole lines take."""
    return content.rfind(b"\n") + 1


def _json(data: Any) -> bytes:
    return json.dumps(data, allow_nan=False).encode() + b"\n"


def _line(sums: Mapping[int, tuple[Sums, ...]], counters: Counters) -> bytes:
    items = {str(number): [text.to_list() for text in texts] for number, texts in sums.items()}
    return _json({"items": items, "saturations": counters.saturations, "overflows": counters.overflows})

"""A matrix that stays in its file: the embedding, of which a run reads a row for each token."""

from __future__ import annotations

import os
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.errors import ArtifactError


class StoredRows:
    """Rows of integers, read from an open file when they are asked for, as an array would give them.

    A file that was cut or written to since it was checked is an error, where a map of it would end the process or
    show what nobody has checked. Processes that are forked from this one may read too.

    Parameters
    ----------
    descriptor : int
        Of the file; another is kept of it as long as this lives.
    name : str
        What to call the file in errors.
    offset : int
        Of the first byte.
    dtype : dtype
        Little-endian.
    shape : (int, int)
    ends : (int, int)
        The least and the greatest entry.
    """

    ndim = 2

    def __init__(
        self,
        descriptor: int,
        name: str,
        offset: int,
        dtype: np.dtype[Any],
        shape: tuple[int, int],
        ends: tuple[int, int],
    ) -> None:
        self.dtype, self.shape, self._name, self._offset, self._ends = dtype, shape, name, offset, ends
        self._descriptor = os.dup(descriptor)
        weakref.finalize(self, os.close, self._descriptor)
        self._state = self._found()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """What they take in the file."""
        return self.size * self.dtype.itemsize

    def min(self) -> int:
        """Return the least entry."""
        return self._ends[0]

    def max(self) -> int:
        """Return the greatest entry."""
        return self._ends[1]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return rows by number or numbers, as an array has them.

        Raises
        ------
        IndexError
            There is no such row.
        ArtifactError
            The file is not what it was when it was checked.
        """
        numbers = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        if numbers.size and not -len(self) <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"rows {numbers.min()} to {numbers.max()} are outside 0..{len(self) - 1}")
        found = np.empty((*numbers.shape, self.shape[1]), dtype=self.dtype)
        stride = self.shape[1] * self.dtype.itemsize
        for place, number in enumerate((numbers % len(self)).reshape(-1).tolist()):
            row = found.reshape(-1, self.shape[1])[place]
            if os.preadv(self._descriptor, [row.data], self._offset + number * stride) != stride:
                raise self._changed()
        if self._found() != self._state or (found.size and not self._within(found)):
            raise self._changed()
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all of it, in memory."""
        return self[:] if dtype is None else self[:].astype(dtype)

    def __deepcopy__(self, memo: Any) -> StoredRows:
        """Return itself: it cannot be written to."""
        return self

    def _within(self, found: NDArray[Any]) -> bool:
        return bool(self._ends[0] <= found.min() and found.max() <= self._ends[1])

    def _found(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns

    def _changed(self) -> ArtifactError:
        return ArtifactError(f"{self._name}: was changed while it was in use; compile again")

"""What a plan for the kernels is written on: places in buffers, and growing tables."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.ir.graph import Source
from loihi_mmfree.sim.engine.kernels.conventions import MESSAGE_BITS
from loihi_mmfree.sim.engine.kernels.programs.structure import Structure


@dataclass
class Slot:
    """Where a value lies, how many elements a token has, which phase wrote it, and whether every thread did."""

    place: int
    width: int
    phase: int
    everywhere: bool
    bits: int = MESSAGE_BITS


@dataclass
class Memory:
    """Places in a buffer; one that was freed in an earlier phase is given out again."""

    size: int = 0
    free: dict[object, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    def take(self, size: int, phase: int, key: object = None) -> int:
        """Return a place for `size` elements, not read or written in the current phase."""
        size = -(-size // 64) * 64 + 64
        waiting = self.free[(size, key)]
        if waiting and waiting[0][0] < phase:
            return waiting.pop(0)[1]
        self.size += size
        return self.size - size

    def give(self, place: int, size: int, phase: int, key: object = None) -> None:
        """Take a place back whose last use is in the current phase."""
        self.free[(-(-size // 64) * 64 + 64, key)].append((phase, place))


@dataclass
class Rows:
    """A table that grows by rows of integers."""

    width: int
    rows: list[list[int]] = field(default_factory=list)

    def extend(self, rows: list[list[int]]) -> int:
        """Add rows and return the number of the first."""
        self.rows += rows
        return len(self.rows) - len(rows)

    def array(self) -> NDArray[np.int64]:
        """Return the table, with an empty last row so that it is never empty."""
        return np.array([*self.rows, [0] * self.width], dtype=np.int64).reshape(-1, self.width)


@dataclass
class Data:
    """A buffer that grows by arrays."""

    parts: list[np.ndarray] = field(default_factory=list)
    size: int = 0

    def add(self, part: np.ndarray) -> int:
        """Append an array and return where it begins."""
        self.parts.append(part)
        self.size += part.size
        return self.size - part.size


@dataclass(frozen=True)
class Plan:
    """Everything about a network, or a part of one, that does not change while it runs.

    Parameters
    ----------
    steps, code, links : int64 arrays
        See `kernels.runtime.network`; a group's step lacks the address of its function.
    structures : tuple of (step, Structure)
        Which function a group's step wants.
    names : tuple of str
        Node of each step.
    constants, table_memory : int64 and int32 arrays
    values, planes, matrices, state_size, tile : int
        Sizes of the buffers; `tile` is a thread's own.
    inputs, results : mapping Source -> (begin, width)
        Where values come in and go out; a result of width 1 may stand for as many equal ones as are read.
    direct : Source, optional
        The result that is written to a buffer of the caller's: the logits.
    last_alone : bool
        Whether those of the last token can be computed alone.
    messages : tuple of Source
        What is counted, in the order of the graph.
    state_places : mapping (node, state) -> (begin, size)
    counting : tuple of str
        The nodes that count saturations and overflows, in the order of the graph.
    fixed_counts : int64 array [counting nodes, 2]
        What each counts at every token for registers that never change.
    weights : tuple of arrays
        The packed weights whose addresses the steps hold.
    """

    steps: NDArray[np.int64]
    names: tuple[str, ...]
    code: NDArray[np.int64]
    links: NDArray[np.int64]
    structures: tuple[tuple[int, Structure], ...]
    constants: Integers
    table_memory: NDArray[np.int32]
    values: int
    planes: int
    matrices: int
    state_size: int
    tile: int
    inputs: dict[Source, tuple[int, int]]
    results: dict[Source, tuple[int, int]]
    direct: Source | None
    last_alone: bool
    messages: tuple[Source, ...]
    state_places: dict[tuple[str, str], tuple[int, int]]
    counting: tuple[str, ...]
    fixed_counts: NDArray[np.int64]
    weights: tuple[NDArray[np.uint8], ...]

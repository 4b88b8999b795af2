"""What of a neuron program decides its machine code. Imports no numba."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias


class Lane(IntEnum):
    """How wide a lane of a vector an instruction takes, where the widths of all registers are proven."""

    NARROW = 0
    """32 bits."""
    WIDE_INSIDE = 1
    """64 bits to compute in; the result fits 32."""
    WIDE = 2
    """64 bits."""


Row: TypeAlias = tuple[Any, ...]
"""An instruction as (operation, target, *operands): registers by number; of a named operand, the position of the
input, state, table or output in the program's own list."""


@dataclass(frozen=True)
class Structure:
    """What a compiled function depends on.

    Parameters
    ----------
    instructions : tuple of Row
    fixed : tuple of (register, one for each neuron)
    inputs : tuple of bool
        Whether an input has one value for each neuron.
    outputs, states, tables : int
        How many there are.
    strict : bool
        Whether values wider than their register are counted.
    lanes : tuple of Lane
        Of each instruction, then of each fixed register; empty if inputs and states within their declared
        widths are no proof that all registers are (`ranges.widths_hold`).
    """

    instructions: tuple[Row, ...]
    fixed: tuple[tuple[int, bool], ...]
    inputs: tuple[bool, ...]
    outputs: int
    states: int
    tables: int
    strict: bool
    lanes: tuple[Lane, ...]

    @property
    def addresses(self) -> int:
        """How many addresses the function is given."""
        return len(self.inputs) + self.outputs + self.states + len(self.fixed) + 2 * self.tables

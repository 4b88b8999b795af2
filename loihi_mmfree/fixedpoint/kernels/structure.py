"""What of a neuron program decides its machine code. Imports no numba."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Structure:
    """What a compiled function depends on.

    Parameters
    ----------
    code : tuple of (code, target, first, second, third)
        Of each instruction.
    fixed : tuple of (register, one for each neuron)
    inputs : tuple of bool
        Whether an input has one value for each neuron.
    outputs, states, tables : int
        How many there are.
    strict : bool
        Whether values wider than their register are counted.
    """

    code: tuple[tuple[int, ...], ...]
    fixed: tuple[tuple[int, bool], ...]
    inputs: tuple[bool, ...]
    outputs: int
    states: int
    tables: int
    strict: bool

    @property
    def addresses(self) -> int:
        """How many addresses the function is given."""
        return len(self.inputs) + self.outputs + self.states + len(self.fixed) + 2 * self.tables

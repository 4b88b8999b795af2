"""Nodes at work over NumPy: the three ways in which a node turns its inputs into its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import (
    OVERFLOWS,
    Counters,
    Machine,
    no_counts,
    overflowing,
    run_program,
)
from loihi_mmfree.fixedpoint.program import Program
from loihi_mmfree.ir.contract import Outputs


class PassingEvaluator:
    """Passes its input on to every output, in copies where these are longer."""

    def __init__(self, outputs: Mapping[str, int]) -> None:
        self._outputs = outputs
        self.variables: dict[str, Integers] = {}
        self.counters = Counters()

    def run(self, arguments: Sequence[Integers]) -> tuple[Outputs, Integers | None]:
        """Return the input, as long as each output is."""
        return {
            port: np.broadcast_to(arguments[0], (len(arguments[0]), size)) for port, size in self._outputs.items()
        }, None


class SummingEvaluator:
    """Adds its input up into accumulators of some width; what does not fit is counted if strict."""

    def __init__(self, add_up: Callable[[Integers], Integers], accumulator_bits: int, strict: bool) -> None:
        self._add_up, self._bits, self._strict = add_up, accumulator_bits, strict
        self.variables: dict[str, Integers] = {}
        self.counters = Counters()

    def run(self, arguments: Sequence[Integers]) -> tuple[Outputs, Integers | None]:
        """Return the sums, and which tokens' are too wide."""
        sums = self._add_up(arguments[0])
        if not self._strict:
            return {"out": sums}, None
        counted = count_wide_sums(sums, self._bits)
        self.counters.overflows += int(counted[:, OVERFLOWS].sum())
        return {"out": sums}, counted


class GroupEvaluator:
    """Interprets a neuron program and keeps its state."""

    def __init__(
        self,
        program: Program,
        size: int,
        constants: Mapping[str, Integers],
        tables: Mapping[str, Integers],
        strict: bool,
    ) -> None:
        self._program, self._size = program, size
        self._machine = Machine(constants, tables, strict, size)
        self.variables = {state.name: np.zeros(size, dtype=np.int64) for state in program.states}

    @property
    def counters(self) -> Counters:
        """Saturations and overflows since the beginning."""
        return self._machine.counters

    def run(self, arguments: Sequence[Integers]) -> tuple[Outputs, Integers | None]:
        """Run the program on every token in turn."""
        inputs = dict(zip((port.name for port in self._program.inputs), arguments, strict=True))
        outputs = run_program(self._program, self._machine, inputs, self.variables)
        shape = len(arguments[0]), self._size
        return {port: np.broadcast_to(value, shape) for port, value in outputs.items()}, self._machine.counted


def count_wide_sums(sums: Integers, accumulator_bits: int) -> Integers:
    """Return the counts [T, 2] of an accumulating synapse: its sums [T, n] wider than an accumulator."""
    counted = no_counts(len(sums))
    counted[:, OVERFLOWS] = np.count_nonzero(overflowing(sums, accumulator_bits), axis=1)
    return counted

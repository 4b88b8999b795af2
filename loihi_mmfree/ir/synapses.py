"""Synapses: how what a group sends reaches the next one, one time step or more later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.proof import Violation
from loihi_mmfree.fixedpoint.ternary import (
    CODES_PER_BYTE,
    check_packed,
    dot_bounds,
    nonzero_counts,
    ternary_dot,
    unpack_ternary,
)
from loihi_mmfree.ir.contract import Bounds, Evaluator, ReceptiveField
from loihi_mmfree.ir.evaluators import PassingEvaluator, SummingEvaluator
from loihi_mmfree.ir.graph import Node, Tensors, required_tensor
from loihi_mmfree.loihi2.hardware import ChipSpec


@dataclass(frozen=True)
class Synapse(Node):
    """A connection; what enters in step t leaves in step t + latency."""

    @property
    def latency(self) -> int:
        """Time steps from source to target."""
        return 1

    @property
    def field(self) -> ReceptiveField:
        """What of the source the neurons behind it read."""
        raise self._undeclared("receptive field")

    @property
    def fan_out(self) -> float:
        """Synapses that a message reaches, zero weights included, in the mean over the source's elements."""
        raise self._undeclared("fan-out")

    @property
    def passes_on(self) -> bool:
        """Whether every element it delivers is one of its source: it adds nothing up, and counts nothing."""
        return False

    @property
    def counts(self) -> bool:
        """Sums may be wider than an accumulator."""
        return not self.passes_on

    def _summed(self, sums: Interval, chip: ChipSpec) -> Bounds:
        """The range of sums, held against the accumulators."""
        bits = chip.accumulator_bits.value
        allowed = (1 << (bits - 1)) - 1
        found = sums.magnitude
        if found <= allowed:
            return {"out": sums}, []
        needed = ("accumulator_bits", found.bit_length() + 1)
        return {"out": sums}, [Violation(self.name, f"{bits}-bit accumulator (rule R2)", found, allowed, needed)]


@dataclass(frozen=True)
class TernarySynapse(Synapse):
    """Ternary weights, from all of a source or from a slice of it.

    Parameters
    ----------
    rows, columns : int
        Of the weights that are stored.
    codes : str
        The tensor that holds them packed, four to a byte.
    first_column : int
        The element of the source that the first column reads; a multiple of four, as bytes hold four.
    source_size : int
        Number of elements of the source; those outside the slice have weight zero.
    """

    rows: int
    columns: int
    codes: str
    first_column: int
    source_size: int

    def __post_init__(self) -> None:
        if self.first_column % CODES_PER_BYTE or self.first_column + self.columns > self.source_size:
            raise ValueError(
                f"{self.name}: columns {self.first_column} to {self.first_column + self.columns} are no slice of "
                f"{self.source_size} that begins at a multiple of four"
            )

    @property
    def outputs(self) -> Mapping[str, int]:
        """The accumulators."""
        return {"out": self.rows}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The activations."""
        return (self.source_size,)

    @property
    def shape(self) -> str:
        """From columns to rows."""
        return f"{self.columns} -> {self.rows}"

    @property
    def field(self) -> ReceptiveField:
        """The slice."""
        return ReceptiveField(self.first_column, self.columns)

    @property
    def fan_out(self) -> float:
        """All rows, from the elements of the slice."""
        return self.rows * self.columns / self.source_size

    def weights(self, tensors: Tensors) -> NDArray[np.int8]:
        """Return the weights -1, 0 and 1 as int8 [rows, source_size]."""
        stored = unpack_ternary(tensors[self.codes], self.columns)
        if self.columns == self.source_size:
            return stored
        behind = self.source_size - self.first_column - self.columns
        return np.pad(stored, ((0, 0), (self.first_column, behind)))

    def bounds(self, tensors: Tensors, inputs: Sequence[Interval], chip: ChipSpec) -> Bounds:
        """The exact range of every row."""
        low, high = dot_bounds(self.weights(tensors), inputs[0].low, inputs[0].high)
        return self._summed(Interval(low, high), chip)

    def evaluator(self, tensors: Tensors, chip: ChipSpec, strict: bool) -> Evaluator:
        """Weights times activations."""
        weights: list[NDArray[np.int8]] = []

        def add_up(activations: Integers) -> Integers:
            # Unpacked when first needed: many a part of a network is made and never run this way.
            weights[:] = weights or [self.weights(tensors)]
            return ternary_dot(activations, weights[0])

        return SummingEvaluator(add_up, chip.accumulator_bits.value, strict)

    def synapses(self, tensors: Tensors) -> int:
        """The weights other than zero."""
        return int(nonzero_counts(tensors[self.codes]).sum(dtype=np.int64))

    def check_tensors(self, tensors: Tensors) -> None:
        """The codes are packed and have the declared shape."""
        packed = required_tensor(tensors, self, self.codes, "uint8")
        if packed.ndim != 2 or len(packed) != self.rows:
            raise ValueError(f"{self.codes}: shape {packed.shape}, expected {self.rows} rows")
        check_packed(packed, self.columns)


@dataclass(frozen=True)
class SumSynapse(Synapse):
    """All-ones weights [1, columns]: the sum over a group."""

    columns: int

    @property
    def outputs(self) -> Mapping[str, int]:
        """The sum."""
        return {"out": 1}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The summands."""
        return (self.columns,)

    @property
    def field(self) -> ReceptiveField:
        """All of the source."""
        return ReceptiveField(0, self.columns)

    @property
    def fan_out(self) -> float:
        """The one neuron behind it."""
        return 1

    def bounds(self, tensors: Tensors, inputs: Sequence[Interval], chip: ChipSpec) -> Bounds:
        """The sums of the lower and of the upper ends."""
        summands = (np.broadcast_to(end, self.columns) for end in (inputs[0].low, inputs[0].high))
        return self._summed(Interval(*(end.sum(keepdims=True) for end in summands)), chip)

    def evaluator(self, tensors: Tensors, chip: ChipSpec, strict: bool) -> Evaluator:
        """The sum."""
        return SummingEvaluator(
            lambda values: values.sum(axis=1, keepdims=True), chip.accumulator_bits.value, strict
        )

    def synapses(self, tensors: Tensors) -> int:
        """One for each summand."""
        return self.columns


@dataclass(frozen=True)
class PassingSynapse(Synapse):
    """One that adds nothing up: every element it delivers is one of its source."""

    @property
    def passes_on(self) -> bool:
        """Always."""
        return True

    def bounds(self, tensors: Tensors, inputs: Sequence[Interval], chip: ChipSpec) -> Bounds:
        """Those of the source."""
        return {"out": inputs[0]}, []

    def evaluator(self, tensors: Tensors, chip: ChipSpec, strict: bool) -> Evaluator:
        """The elements of the source; time steps are left out."""
        return PassingEvaluator(self.outputs)


@dataclass(frozen=True)
class Broadcast(PassingSynapse):
    """All-ones weights [rows, 1]: one number to every neuron of a group."""

    rows: int

    @property
    def outputs(self) -> Mapping[str, int]:
        """The copies."""
        return {"out": self.rows}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The number."""
        return (1,)

    @property
    def field(self) -> ReceptiveField:
        """The one element."""
        return ReceptiveField(0, 1)

    @property
    def fan_out(self) -> float:
        """Every neuron of the group."""
        return self.rows

    def synapses(self, tensors: Tensors) -> int:
        """One for each copy."""
        return self.rows


@dataclass(frozen=True)
class Delay(PassingSynapse):
    """One-to-one connection that takes `steps` time steps, so that branches meet."""

    size: int
    steps: int

    @property
    def latency(self) -> int:
        """As declared."""
        return self.steps

    @property
    def outputs(self) -> Mapping[str, int]:
        """The delayed vector."""
        return {"out": self.size}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The vector."""
        return (self.size,)

    @property
    def field(self) -> ReceptiveField:
        """Each neuron its own element."""
        return ReceptiveField(0, self.size, one_to_one=True)

    @property
    def fan_out(self) -> float:
        """The one neuron of the same number."""
        return 1

    def synapses(self, tensors: Tensors) -> int:
        """One for each element."""
        return self.size

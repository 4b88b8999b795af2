"""Neuron programs over NumPy int64: the specification of every other path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.operations import OPERATIONS, Named, Operation
from loihi_mmfree.fixedpoint.program import Instruction, Program

SATURATIONS, OVERFLOWS = 0, 1
"""Columns of counts by time step, int64 [T, 2]."""


@dataclass
class Counters:
    """What happened while programs ran: values clamped, and values wider than their register declares."""

    saturations: int = 0
    overflows: int = 0

    @classmethod
    def total(cls, counters: Iterable[Counters]) -> Counters:
        """Return the sum of several."""
        found = cls()
        for each in counters:
            found.add(each)
        return found

    def since(self, before: Counters) -> Counters:
        """Return what was counted after `before`."""
        return Counters(self.saturations - before.saturations, self.overflows - before.overflows)

    def add(self, other: Counters) -> None:
        """Add what was counted elsewhere."""
        self.saturations += other.saturations
        self.overflows += other.overflows


@dataclass
class Machine:
    """The registers of a neuron group, for arrays of shape [..., n].

    Parameters
    ----------
    constants, tables : mapping name -> int64 array
        Constants are [n] or [1], tables one-dimensional.
    strict : bool
        Check every register against its declared width.
    neurons : int
        Size of the group. What is the same for all neurons, and so computed once, counts for each of them.
    counters : Counters
        Saturations and, in strict mode, overflows since the beginning.
    counted : int64 array [T, 2]
        Those of each time step of the last run; see `SATURATIONS`, `OVERFLOWS`.
    """

    constants: Mapping[str, Integers]
    tables: Mapping[str, Integers]
    strict: bool = False
    neurons: int = 1
    counters: Counters = field(default_factory=Counters)
    counted: NDArray[np.int64] = field(default_factory=lambda: no_counts(1))
    registers: dict[str, Integers] = field(default_factory=dict)
    outputs: dict[str, Integers] = field(default_factory=dict)

    def execute(
        self,
        instructions: tuple[Instruction, ...],
        inputs: Mapping[str, Integers],
        states: dict[str, Integers],
    ) -> None:
        """Run instructions in order; sends go to `outputs`, stores to `states`."""
        stored: dict[str, Integers] = {}
        for each in instructions:
            operation = OPERATIONS[each.operation]
            if operation.result is None:
                effects = stored if operation.named is Named.STATE else self.outputs
                effects[each.operands[0]] = self.registers[each.registers[0]]
                continue
            arguments = [self.registers[name] for name in each.registers]
            value = operation.result.value(
                each.immediate, *self._named(each, operation, inputs, states), *arguments
            )
            self.registers[each.target] = value
            if operation.result.clamps:
                self._count(SATURATIONS, value != arguments[0])
            if self.strict:
                self._count(OVERFLOWS, overflowing(value, each.bits))
        for name, value in stored.items():
            shape = states[name].shape
            states[name] = value if value.shape == shape else np.broadcast_to(value, shape).copy()

    def _named(
        self,
        each: Instruction,
        operation: Operation,
        inputs: Mapping[str, Integers],
        states: Mapping[str, Integers],
    ) -> tuple[Integers, ...]:
        """What an instruction loads by name, or nothing."""
        if operation.named is None:
            return ()
        loaded = {
            Named.INPUT: inputs,
            Named.STATE: states,
            Named.CONSTANT: self.constants,
            Named.TABLE: self.tables,
        }
        return (loaded[operation.named][each.operands[0]],)

    def _count(self, what: int, flags: NDArray[np.bool_]) -> None:
        """Add the neurons that are flagged: in each time step [T, n], or alike in all of them [n]."""
        for_each = max(1, self.neurons // flags.shape[-1])
        self.counted[:, what] += for_each * np.count_nonzero(flags, axis=-1)


def overflowing(value: Integers, bits: int) -> NDArray[np.bool_]:
    """Return which values do not fit a signed integer of `bits` bits."""
    limit = np.int64(1) << np.int64(bits - 1)
    return (value < -limit) | (value >= limit)


def no_counts(steps: int) -> NDArray[np.int64]:
    """Return counts of so many time steps in which nothing happened."""
    return np.zeros((steps, 2), dtype=np.int64)


@lru_cache(maxsize=4096)
def recurrence(
    program: Program,
) -> tuple[tuple[Instruction, ...], tuple[Instruction, ...], tuple[Instruction, ...]]:
    """Split a program into what precedes, what is, and what follows its recurrence in time.

    The recurrence is what lies on a path from a state load to a store. Only that part has to walk through a
    sequence token by token; what precedes and follows it runs for all tokens of a sequence together.
    """
    after_load: set[str] = set()
    for each in program.instructions:
        if _loads_state(each) or any(name in after_load for name in each.registers):
            after_load.add(each.target)
    before_store: set[str] = set()
    for each in reversed(program.instructions):
        if _stores(each) or each.target in before_store:
            before_store.update(each.registers)
    core = tuple(
        each
        for each in program.instructions
        if _stores(each) or (each.target in before_store and each.target in after_load)
    )
    # A state load which feeds only the outputs still has to see every time step.
    loads = tuple(each for each in program.instructions if _loads_state(each) and each not in core)
    first = tuple(
        each for each in program.instructions if each not in core and each.target and each.target not in after_load
    )
    last = tuple(
        each for each in program.instructions if each not in core and each not in first and each not in loads
    )
    return first, loads + core, last


def _loads_state(each: Instruction) -> bool:
    operation = OPERATIONS[each.operation]
    return operation.named is Named.STATE and operation.result is not None


def _stores(each: Instruction) -> bool:
    operation = OPERATIONS[each.operation]
    return operation.named is Named.STATE and operation.result is None


def run_program(
    program: Program,
    machine: Machine,
    inputs: Mapping[str, Integers],
    states: dict[str, Integers],
) -> dict[str, Integers]:
    """Run a program on a sequence of time steps.

    Parameters
    ----------
    program : Program
    machine : Machine
        Holds constants, tables and counters; its registers, and what it counted last, are overwritten.
    inputs : mapping name -> int64 array [T, n] or [T, 1]
        What arrives in each of T time steps.
    states : dict name -> int64 array [n]
        Carried on in place, from before the first time step to after the last.

    Returns
    -------
    dict port -> int64 array [T, n]
    """
    machine.registers, machine.outputs = {}, {}
    machine.counted = no_counts(max((len(values) for values in inputs.values()), default=1))
    if program.states:
        first, core, last = recurrence(program)
        machine.execute(first, inputs, states)
        _walk(core, machine, inputs, states)
        machine.execute(last, inputs, states)
    else:
        machine.execute(program.instructions, inputs, states)
    machine.counters.add(Counters(*machine.counted.sum(axis=0).tolist()))
    return machine.outputs


def _walk(
    core: tuple[Instruction, ...],
    machine: Machine,
    inputs: Mapping[str, Integers],
    states: dict[str, Integers],
) -> None:
    """Run the recurrence step by step and leave its registers stacked over the steps."""
    written = [each.target for each in core if each.target]
    outside = {name for each in core for name in each.registers} - set(written)
    sequences = {name: machine.registers[name] for name in outside}
    collected: dict[str, list[Integers]] = {name: [] for name in written}
    step_machine = Machine(machine.constants, machine.tables, machine.strict, machine.neurons)
    for step in range(len(machine.counted)):
        now = {name: values[step] if values.ndim > 1 else values for name, values in sequences.items()}
        step_machine.registers, step_machine.counted = now, machine.counted[step : step + 1]
        step_machine.execute(core, inputs, states)
        for name in written:
            collected[name].append(step_machine.registers[name])
    for name, values in collected.items():
        machine.registers[name] = np.stack(values)

"""Random neuron programs, valid by construction, with parameters and inputs to run them on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from loihi_mmfree.fixedpoint.operations import MAX_REGISTER_BITS, OPERATIONS, Named, Operation
from loihi_mmfree.fixedpoint.program import Instruction, Port, Program

WIDEST = 41
"""Wider registers are cut before they are read again, so that no intermediate ever leaves 63 bits."""
ENTRY_BITS = 18
"""Declared width of constants and of table entries."""


@dataclass(frozen=True)
class Case:
    """A program and what it runs on: T time steps of n neurons.

    Parameters
    ----------
    program : Program
        Sends every register it writes, so that all of them can be seen.
    constants : dict name -> int64 array [n] or [1]
    tables : dict name -> int64 array
    ends : dict input -> (low, high), int64 arrays [n] or [1]
        What the inputs keep to.
    inputs : dict input -> int64 array [T, n]
    states : dict state -> int64 array [n]
        Before the first time step.
    """

    program: Program
    constants: dict[str, np.ndarray]
    tables: dict[str, np.ndarray]
    ends: dict[str, tuple[np.ndarray, np.ndarray]]
    inputs: dict[str, np.ndarray]
    states: dict[str, np.ndarray]


class _Writer:
    """Appends instructions, drawn from the table of operations.

    Every register is declared one bit wider than the rule of its operation says: the rule is for operands that use
    the symmetric range, and no value here uses the last bit of its register at all.
    """

    def __init__(self, draw: st.DrawFn, size: int) -> None:
        self.draw, self.size = draw, size
        self.instructions: list[Instruction] = []
        self.widths: dict[str, int] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.tables: dict[str, np.ndarray] = {}
        self.random = np.random.default_rng(draw(st.integers(0, 2**32)))

    def emit(self, operation: str, operands: tuple[str, ...], bits: int, immediate: int = 0) -> str:
        target = f"r{len(self.instructions)}"
        self.instructions.append(Instruction(operation, target, operands, immediate, bits))
        if bits > WIDEST:
            return self.saturated(target, 30)
        self.widths[target] = bits
        return target

    def saturated(self, register: str, bits: int) -> str:
        return self.emit("saturate", (register,), bits + 1, bits)

    def register(self) -> str:
        return self.draw(st.sampled_from(sorted(self.widths)))

    def between(self, low: int, high: int) -> str:
        """A register with values in a range, from its beginning up to a power of two."""
        bits = self.draw(st.integers(1, max(1, min(16, (high - low + 1).bit_length() - 1))))
        if high - low < 2**bits - 1:
            return self.emit("immediate", (), max(2, low.bit_length() + 2), low)
        kept = self.emit("low_bits", (self.register(),), bits + 2, bits)
        if low == 0:
            return kept
        first = self.emit("immediate", (), low.bit_length() + 2, low)
        return self.emit("add", (kept, first), max(self.widths[kept], self.widths[first]) + 2)

    def numbers(self, low: np.ndarray | int, high: np.ndarray | int, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers between two ends, both included, and the ends themselves more often than by chance."""
        inside = self.random.integers(low, high, shape, endpoint=True)
        extreme = np.where(self.random.random(shape) < 0.5, low, high)
        return np.where(self.random.random(shape) < 0.5, inside, extreme).astype(np.int64)

    def write(self, name: str) -> str:
        """Append an operation of the table, with operands that it allows."""
        operation = OPERATIONS[name]
        immediate = self.draw(_immediates(operation))
        named, entries = self._named(operation)
        if self.draw(st.booleans()):
            operands = [self.register() for _ in operation.registers]
        else:
            operands = [self.register()] * len(operation.registers)
        for position, each in enumerate(operation.registers):
            if each.allowed:
                operands[position] = self.between(*each.allowed(immediate, entries))
        bits = self._width(operation, immediate, operands)
        if bits > MAX_REGISTER_BITS - 2:
            operands = [self.saturated(each, 12) for each in operands]
            bits = self._width(operation, immediate, operands)
        return self.emit(name, (*named, *operands), bits, immediate)

    def _width(self, operation: Operation, immediate: int, operands: list[str]) -> int:
        """Wide enough for the result, and for what the operation computes on the way to it."""
        assert operation.result is not None
        if operation.result.width is None:
            return ENTRY_BITS + 1
        widths = [self.widths[each] for each in operands]
        bits = operation.result.width(immediate, *widths) + 1
        if operation.result.intermediate is None:
            return bits
        return max(
            bits, operation.result.intermediate(immediate, *(2 ** (each - 1) for each in widths)).bit_length()
        )

    def _named(self, operation: Operation) -> tuple[tuple[str, ...], int]:
        """A new constant or table, by name, and the number of its entries."""
        if operation.named is None:
            return (), 0
        kept = {Named.CONSTANT: self.constants, Named.TABLE: self.tables}[operation.named]
        name = f"{operation.named.value}{len(kept)}"
        entries = self.draw(
            st.integers(1, 16) if operation.named is Named.TABLE else st.sampled_from([1, self.size])
        )
        limit = 2 ** (ENTRY_BITS - 1)
        kept[name] = self.numbers(-limit, limit, (entries,))
        return (name,), entries


def _immediates(operation: Operation) -> SearchStrategy[int]:
    """Immediates that an operation takes, the small ones of bit counts and distances."""
    low, high = operation.immediate or (0, 0)
    return st.integers(max(low, -(2**20)), min(high, low + 12 if low >= 0 else 2**20))


def drawn_operations() -> list[str]:
    """The operations that compute something within a time step."""
    return [name for name, each in OPERATIONS.items() if each.result is not None and not each.reads_from_outside]


@st.composite
def _cases(draw: st.DrawFn, stateful: bool | None = None, operations: Sequence[str] = ()) -> Case:
    size, steps = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    writer = _Writer(draw, size)
    ports = [Port(f"in{n}", draw(st.integers(2, 24))) for n in range(draw(st.integers(1, 3)))]
    ends, inputs = {}, {}
    for port in ports:
        limit = 2 ** (port.bits - 1) - 1
        pair = writer.numbers(-limit, limit, (2, draw(st.sampled_from([1, size]))))
        ends[port.name] = (pair.min(axis=0), pair.max(axis=0))
        inputs[port.name] = writer.numbers(*ends[port.name], (steps, size))
        writer.emit("input", (port.name,), port.bits + 1)
    count = draw(st.integers(1, 2)) if stateful or (stateful is None and draw(st.booleans())) else 0
    states = [Port(f"state{n}", draw(st.integers(2, 24))) for n in range(count)]
    for port in states:
        writer.emit("state", (port.name,), port.bits + 1)
    for _ in range(draw(st.integers(1, 10))):
        writer.write(draw(st.sampled_from(operations or drawn_operations())))
    stores = []
    for port in states:
        kept = writer.saturated(writer.register(), port.bits)
        stores.append(Instruction("store", "", (port.name, kept)))
    program = Program(tuple(ports), (), tuple(states), (*writer.instructions, *stores))
    before = {
        port.name: writer.numbers(-(2 ** (port.bits - 1) - 1), 2 ** (port.bits - 1) - 1, (size,))
        for port in states
    }
    return Case(_seen_through(program), writer.constants, writer.tables, ends, inputs, before)


def _seen_through(program: Program) -> Program:
    """The program with every register sent under its own name."""
    written = [each for each in program.instructions if each.target]
    sends = tuple(Instruction("send", "", (each.target, each.target)) for each in written)
    outputs = tuple(Port(each.target, each.bits) for each in written)
    return replace(program, outputs=outputs, instructions=program.instructions + sends)


@pytest.fixture(scope="session")
def cases() -> Callable[..., SearchStrategy[Case]]:
    """A function that returns a strategy for random cases.

    `stateful` asks for states or for none, `operations` for these and no others.
    """
    return _cases


def quotient(value: int, shift: int) -> int:
    """value / 2**shift, rounded half up."""
    return math.floor(Fraction(value, 2**shift) + Fraction(1, 2))


def normalized(value: int, bits: int) -> tuple[int, int]:
    """Mantissa and exponent: value = m * 2**e, e the least even number that makes m < 2**bits."""
    if value == 0:
        return 0, 0
    exponent = -bits - (bits & 1)
    while value >= Fraction(2) ** (bits + exponent):
        exponent += 2
    rounded = math.floor(value / Fraction(2) ** exponent + Fraction(1, 2))
    return min(rounded, 2**bits - 1), exponent


def lerp(weight: int, at_one: int, at_zero: int, bits: int) -> int:
    return quotient(weight * at_one + (2**bits - weight) * at_zero, bits)


ORACLE: Mapping[str, Callable[..., int]] = {
    "add": lambda _, a, b: a + b,
    "sub": lambda _, a, b: a - b,
    "mul": lambda _, a, b: a * b,
    "min": lambda _, a, b: min(a, b),
    "max": lambda _, a, b: max(a, b),
    "shift_right_by": lambda _, a, b: quotient(a, b),
    "shift_left": lambda k, a: a * 2**k,
    "shift_right": lambda k, a: quotient(a, k),
    "high_bits": lambda k, a: a // 2**k,
    "low_bits": lambda k, a: a % 2**k,
    "absolute": lambda _, a: abs(a),
    "saturate": lambda k, a: max(-(2 ** (k - 1) - 1), min(2 ** (k - 1) - 1, a)),
    "exponent": lambda k, a: normalized(a, k)[1],
    "mantissa": lambda k, a: normalized(a, k)[0],
    "select": lambda _, a, b, c: b if a >= 0 else c,
    "lerp": lambda k, a, b, c: lerp(a, b, c, k),
    "immediate": lambda k: k,
    "table": lambda _, entries, i: entries[i],
    "input": lambda _, value: value,
    "state": lambda _, value: value,
    "constant": lambda _, value: value,
}
"""What every operation that writes a register means, in plain Python integers: of its immediate, then of what it
names, then of its registers."""


@pytest.fixture(scope="session")
def oracle() -> Mapping[str, Callable[..., int]]:
    """The operations in plain Python integers, written here a second time."""
    return ORACLE

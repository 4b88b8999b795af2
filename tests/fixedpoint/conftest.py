"""Random neuron programs, valid by construction, with parameters and inputs to run them on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from loihi_mmfree.fixedpoint.program import Instruction, Port, Program

LARGEST_BOUND = 2**40
"""Greater values are cut before they are used again, so that no intermediate ever leaves 63 bits."""
UNARY = ("shift_left", "shift_right", "high_bits", "low_bits", "absolute", "saturate", "exponent", "mantissa")
BINARY = ("add", "sub", "mul", "min", "max", "shift_right_by")
OTHER = ("select", "lerp", "table", "constant", "immediate", "square")


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
    """Appends instructions and knows the largest magnitude that each register can have."""

    def __init__(self, draw: st.DrawFn, size: int) -> None:
        self.draw, self.size = draw, size
        self.instructions: list[Instruction] = []
        self.bounds: dict[str, int] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.tables: dict[str, np.ndarray] = {}
        self.random = np.random.default_rng(draw(st.integers(0, 2**32)))

    def emit(self, operation: str, operands: tuple[str, ...], bound: int, immediate: int = 0) -> str:
        target = f"r{len(self.instructions)}"
        bits = max(2, bound.bit_length() + 1)
        self.instructions.append(Instruction(operation, target, operands, immediate, bits))
        if bound >= LARGEST_BOUND:
            return self.emit("saturate", (target,), 2**29 - 1, 30)
        self.bounds[target] = bound
        return target

    def register(self) -> str:
        return self.draw(st.sampled_from(sorted(self.bounds)))

    def below(self, register: str, bits: int) -> str:
        """A register with values from 0 to 2**bits - 1."""
        return self.emit("low_bits", (register,), 2**bits - 1, bits)

    def numbers(self, low: np.ndarray | int, high: np.ndarray | int, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers between two ends, both included, and the ends themselves more often than by chance."""
        inside = self.random.integers(low, high, shape, endpoint=True)
        extreme = np.where(self.random.random(shape) < 0.5, low, high)
        return np.where(self.random.random(shape) < 0.5, inside, extreme).astype(np.int64)

    def write(self, operation: str) -> str:
        a, b = self.register(), self.register()
        of_a, of_b = self.bounds[a], self.bounds[b]
        small = self.draw(st.integers(1, 12))
        match operation:
            case "add" | "sub":
                return self.emit(operation, (a, b), of_a + of_b)
            case "mul" if of_a * of_b < 2**60:
                return self.emit("mul", (a, b), of_a * of_b)
            case "square" if of_a < 2**30:
                return self.emit("mul", (a, a), of_a * of_a)
            case "min" | "max":
                return self.emit(operation, (a, b), max(of_a, of_b))
            case "shift_right_by":
                return self.emit(operation, (a, self.below(b, self.draw(st.integers(1, 5)))), of_a)
            case "shift_left":
                return self.emit(operation, (a,), of_a << small, small)
            case "shift_right":
                return self.emit(operation, (a,), (of_a + (1 << (small - 1))) >> small, small)
            case "high_bits":
                return self.emit(operation, (a,), (of_a >> small) + 1, small)
            case "low_bits":
                return self.below(a, small)
            case "absolute":
                return self.emit(operation, (a,), of_a)
            case "saturate":
                return self.emit(operation, (a,), min(of_a, 2**small - 1), small + 1)
            case "exponent":
                return self.emit(operation, (self.emit("absolute", (a,), of_a),), 64, small + 1)
            case "mantissa":
                return self.emit(operation, (self.emit("absolute", (a,), of_a),), 2 ** (small + 1) - 1, small + 1)
            case "select":
                return self.emit(operation, (a, b, self.register()), max(self.bounds.values()))
            case "lerp":
                weight = self.below(self.register(), small)
                return self.emit(operation, (weight, a, b), max(of_a, of_b), small)
            case "table":
                return self._table(self.below(a, self.draw(st.integers(1, 4))))
            case "constant":
                return self._constant()
            case _:
                value = self.draw(st.integers(-(2**20), 2**20))
                return self.emit("immediate", (), abs(value), value)

    def _table(self, index: str) -> str:
        name = f"table{len(self.tables)}"
        self.tables[name] = self.numbers(-(2**16), 2**16, (self.bounds[index] + 1,))
        return self.emit("table", (name, index), 2**16)

    def _constant(self) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = self.numbers(-(2**15), 2**15, (self.draw(st.sampled_from([1, self.size])),))
        return self.emit("constant", (name,), 2**15)


@st.composite
def _cases(draw: st.DrawFn, stateful: bool | None = None) -> Case:
    size, steps = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    writer = _Writer(draw, size)
    ports = [Port(f"in{n}", draw(st.integers(2, 24))) for n in range(draw(st.integers(1, 3)))]
    ends, inputs = {}, {}
    for port in ports:
        limit = 2 ** (port.bits - 1) - 1
        pair = writer.numbers(-limit, limit, (2, draw(st.sampled_from([1, size]))))
        ends[port.name] = (pair.min(axis=0), pair.max(axis=0))
        inputs[port.name] = writer.numbers(*ends[port.name], (steps, size))
        writer.emit("input", (port.name,), limit)
    count = draw(st.integers(1, 2)) if stateful or (stateful is None and draw(st.booleans())) else 0
    states = [Port(f"state{n}", draw(st.integers(2, 24))) for n in range(count)]
    for port in states:
        writer.emit("state", (port.name,), 2 ** (port.bits - 1) - 1)
    for _ in range(draw(st.integers(1, 10))):
        writer.write(draw(st.sampled_from(UNARY + BINARY + OTHER)))
    stores = []
    for port in states:
        kept = writer.emit("saturate", (writer.register(),), 2 ** (port.bits - 1) - 1, port.bits)
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
    """A function that returns a strategy for random cases; `stateful` asks for states or for none."""
    return _cases

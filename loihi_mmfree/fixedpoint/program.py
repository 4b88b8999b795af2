"""Neuron programs: what a neuron group does in one time step, as data.

A program is a straight line of instructions over registers that are written once. It is the single
definition of a group's arithmetic: interpreted over NumPy it is the specification
(:mod:`.interpreter`), interpreted over intervals it is the overflow proof (:mod:`.intervals`), printed it is
the listing for whoever writes neurocore microcode (:mod:`.listing`), and its length is its cost.

The instruction set holds integer arithmetic, comparison, small tables and leading-zero counting, and no
division, no floating point and no loops: see docs/fixed-point.md for each instruction's exact meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

OPERATIONS: Mapping[str, int] = {
    # loads: the operand is a name, not a register
    "input": 1,
    "state": 1,
    "constant": 1,
    "immediate": 0,
    # arithmetic on registers
    "add": 2,
    "sub": 2,
    "mul": 2,
    "shift_left": 1,
    "shift_right": 1,
    "shift_right_by": 2,
    "high_bits": 1,
    "low_bits": 1,
    "absolute": 1,
    "min": 2,
    "max": 2,
    "saturate": 1,
    "select": 3,
    "lerp": 3,
    "exponent": 1,
    "mantissa": 1,
    # the first operand is a name, the second a register
    "table": 2,
    "store": 2,
    "send": 2,
}
"""Operation -> number of operands."""

NAMED_FIRST = frozenset({"input", "state", "constant", "table", "store", "send"})
EFFECTS = frozenset({"store", "send"})
MAX_REGISTER_BITS = 63
"""What the int64 specification can represent; a chip allows less (loihi2/hardware.py)."""


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Parameters
    ----------
    operation : str
        A key of `OPERATIONS`.
    target : str
        The register written; empty for store and send.
    operands : tuple of str
        Registers, except the first operand of loads, table, store and send, which is a name.
    immediate : int
        Shift distance, bit count or literal, where the operation takes one.
    bits : int
        Declared signed width of the target register. The interval proof confirms it.
    """

    operation: str
    target: str
    operands: tuple[str, ...]
    immediate: int = 0
    bits: int = 0

    @property
    def registers(self) -> tuple[str, ...]:
        """The registers this instruction reads."""
        return self.operands[1:] if self.operation in NAMED_FIRST else self.operands


@dataclass(frozen=True)
class Port:
    """A named message or state variable of `bits` signed bits."""

    name: str
    bits: int


@dataclass(frozen=True)
class Program:
    """The arithmetic of a neuron group.

    Parameters
    ----------
    inputs : tuple of Port
        What arrives, summed over synapses, with the width it is allowed to have.
    outputs : tuple of Port
        Messages sent (graded spikes).
    states : tuple of Port
        Variables kept from time step to time step; zero at the start.
    instructions : tuple of Instruction
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[Port, ...]
    instructions: tuple[Instruction, ...]

    def __post_init__(self) -> None:
        _validate(self)

    def names(self, operation: str) -> tuple[str, ...]:
        """Return the distinct names that instructions of one kind refer to, in order."""
        found = (each.operands[0] for each in self.instructions if each.operation == operation)
        return tuple(dict.fromkeys(found))

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the constants it loads."""
        return self.names("constant")

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables it reads."""
        return self.names("table")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description; `from_dict` inverts it."""
        return {
            "inputs": [[port.name, port.bits] for port in self.inputs],
            "outputs": [[port.name, port.bits] for port in self.outputs],
            "states": [[port.name, port.bits] for port in self.states],
            "instructions": [
                [each.operation, each.target, list(each.operands), each.immediate, each.bits]
                for each in self.instructions
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Program:
        """Read a description and check it as if it came from a stranger.

        Raises
        ------
        ValueError
            The description is not a valid program.
        """
        try:
            ports = {
                kind: tuple(Port(str(name), int(bits)) for name, bits in data[kind])
                for kind in ("inputs", "outputs", "states")
            }
            instructions = tuple(
                Instruction(str(operation), str(target), tuple(map(str, operands)), int(immediate), int(bits))
                for operation, target, operands, immediate, bits in data["instructions"]
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a neuron program: {error}") from error
        return cls(ports["inputs"], ports["outputs"], ports["states"], instructions)


def _validate(program: Program) -> None:
    """Check names, single assignment, order of use and immediates; raise ValueError."""
    names = {
        "input": {port.name for port in program.inputs},
        "send": {port.name for port in program.outputs},
        "state": {port.name for port in program.states},
        "store": {port.name for port in program.states},
    }
    _validate_ports(program)
    written: set[str] = set()
    done: set[tuple[str, str]] = set()
    for position, each in enumerate(program.instructions):
        where = f"instruction {position} ({each.operation})"
        if OPERATIONS.get(each.operation) != len(each.operands):
            raise ValueError(f"{where}: unknown operation or wrong number of operands {each.operands}")
        if each.operation in names and each.operands[0] not in names[each.operation]:
            raise ValueError(f"{where}: the program declares no {each.operation} {each.operands[0]!r}")
        unwritten = [register for register in each.registers if register not in written]
        if unwritten:
            raise ValueError(f"{where}: reads {unwritten} before it is written")
        if each.operation in EFFECTS:
            if (each.operation, each.operands[0]) in done:
                raise ValueError(f"{where}: {each.operands[0]!r} is written twice in a time step")
            done.add((each.operation, each.operands[0]))
            continue
        if not each.target or each.target in written:
            raise ValueError(f"{where}: register {each.target!r} is unnamed or written twice")
        if not 2 <= each.bits <= MAX_REGISTER_BITS:
            raise ValueError(f"{where}: a register has 2 to {MAX_REGISTER_BITS} bits, found {each.bits}")
        low, high = _immediate_range(each.operation)
        if not low <= each.immediate <= high:
            raise ValueError(f"{where}: immediate {each.immediate} is not in {low}..{high}")
        written.add(each.target)
    missing = [port.name for port in program.outputs if ("send", port.name) not in done]
    missing += [port.name for port in program.states if ("store", port.name) not in done]
    if missing:
        raise ValueError(f"the program never writes {missing}")


def _validate_ports(program: Program) -> None:
    for kind, ports in (("input", program.inputs), ("output", program.outputs), ("state", program.states)):
        names = [port.name for port in ports]
        if len(set(names)) < len(names):
            raise ValueError(f"an {kind} is declared twice: {names}")
        for port in ports:
            if not 2 <= port.bits <= MAX_REGISTER_BITS:
                raise ValueError(f"{kind} {port.name}: 2 to {MAX_REGISTER_BITS} bits, found {port.bits}")


def _immediate_range(operation: str) -> tuple[int, int]:
    """Least and greatest immediate that means something to an operation."""
    if operation == "immediate":
        limit = 1 << (MAX_REGISTER_BITS - 1)
        return -limit, limit - 1
    least = 2 if operation in ("saturate", "exponent", "mantissa") else 0
    return least, MAX_REGISTER_BITS - 1


@dataclass
class ProgramBuilder:
    """Writes a program instruction by instruction; every method returns the register it wrote.

    Widths are declared by simple rules (a product has the bits of both factors less one, a sum one more);
    `bits=` declares a tighter one, which the interval proof then has to confirm.
    """

    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    widths: dict[str, int] = field(default_factory=dict)

    def _emit(self, operation: str, operands: Iterable[str], bits: int, immediate: int = 0) -> str:
        target = f"r{len(self.widths)}"
        self.instructions.append(Instruction(operation, target, tuple(operands), immediate, bits))
        self.widths[target] = bits
        return target

    def input(self, name: str, bits: int) -> str:
        """Load what arrived at an input, and declare how wide it may be."""
        self.inputs[name] = bits
        return self._emit("input", [name], bits)

    def state(self, name: str, bits: int) -> str:
        """Load a state variable as the last time step left it."""
        self.states[name] = bits
        return self._emit("state", [name], bits)

    def constant(self, name: str, bits: int) -> str:
        """Load a constant: one value for each neuron, or one for all."""
        return self._emit("constant", [name], bits)

    def immediate(self, value: int) -> str:
        """Load a literal."""
        return self._emit("immediate", [], value.bit_length() + 1 if value else 2, value)

    def add(self, a: str, b: str, bits: int | None = None) -> str:
        """Return a + b."""
        return self._emit("add", [a, b], bits or max(self.widths[a], self.widths[b]) + 1)

    def sub(self, a: str, b: str, bits: int | None = None) -> str:
        """Return a - b."""
        return self._emit("sub", [a, b], bits or max(self.widths[a], self.widths[b]) + 1)

    def mul(self, a: str, b: str, bits: int | None = None) -> str:
        """Return a * b."""
        return self._emit("mul", [a, b], bits or self.widths[a] + self.widths[b] - 1)

    def shift(self, a: str, right: int, bits: int | None = None) -> str:
        """Shift right with rounding by `right` places, or left without loss if it is negative."""
        if right == 0:
            return a
        if right < 0:
            return self._emit("shift_left", [a], bits or self.widths[a] - right, -right)
        return self._emit("shift_right", [a], bits or max(self.widths[a] - right + 1, 2), right)

    def shift_right_by(self, a: str, distance: str, bits: int | None = None) -> str:
        """Shift right with rounding by a distance held in a register."""
        return self._emit("shift_right_by", [a, distance], bits or self.widths[a])

    def split(self, a: str, count: int) -> tuple[str, str]:
        """Return what lies above and what lies in the lowest `count` bits: a = high * 2**count + low."""
        high = self._emit("high_bits", [a], max(self.widths[a] - count, 2), count)
        return high, self._emit("low_bits", [a], count + 1, count)

    def absolute(self, a: str) -> str:
        """Return |a|."""
        return self._emit("absolute", [a], self.widths[a])

    def minimum(self, a: str, b: str, bits: int | None = None) -> str:
        """Return the smaller one."""
        return self._emit("min", [a, b], bits or max(self.widths[a], self.widths[b]))

    def maximum(self, a: str, b: str, bits: int | None = None) -> str:
        """Return the larger one."""
        return self._emit("max", [a, b], bits or max(self.widths[a], self.widths[b]))

    def saturate(self, a: str, bits: int) -> str:
        """Clamp to +-(2**(bits-1) - 1); the clamped values are counted."""
        return self._emit("saturate", [a], bits, bits)

    def select(self, condition: str, at_least_zero: str, below_zero: str) -> str:
        """Return the second register where the first is at least zero, the third elsewhere."""
        bits = max(self.widths[at_least_zero], self.widths[below_zero])
        return self._emit("select", [condition, at_least_zero, below_zero], bits)

    def lerp(self, weight: str, at_one: str, at_zero: str, bits: int) -> str:
        """Return the convex combination of two registers, `bits` fractional bits of weight, one rounding."""
        width = max(self.widths[at_one], self.widths[at_zero])
        return self._emit("lerp", [weight, at_one, at_zero], width, bits)

    def exponent(self, a: str, bits: int) -> str:
        """Return the even exponent of a positive register for a mantissa of `bits` bits."""
        return self._emit("exponent", [a], 8, bits)

    def mantissa(self, a: str, bits: int) -> str:
        """Return the mantissa of `bits` bits that belongs to `exponent`."""
        return self._emit("mantissa", [a], bits + 1, bits)

    def table(self, name: str, index: str, bits: int) -> str:
        """Look up entry `index` of a table."""
        return self._emit("table", [name, index], bits)

    def store(self, name: str, register: str) -> None:
        """Keep a register as the state of the next time step."""
        self.instructions.append(Instruction("store", "", (name, register)))

    def send(self, name: str, register: str) -> None:
        """Send a register as a graded spike; zero sends nothing."""
        self.outputs[name] = self.widths[register]
        self.instructions.append(Instruction("send", "", (name, register)))

    def build(self) -> Program:
        """Return the finished program."""
        return Program(
            tuple(Port(name, bits) for name, bits in self.inputs.items()),
            tuple(Port(name, bits) for name, bits in self.outputs.items()),
            tuple(Port(name, bits) for name, bits in self.states.items()),
            tuple(self.instructions),
        )

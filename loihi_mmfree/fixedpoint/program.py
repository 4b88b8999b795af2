"""Neuron programs: what a neuron group does in one time step, as data.

A program is a straight line of instructions over registers that are written once. It is the single
definition of a group's arithmetic: interpreted over NumPy it is the specification
(:mod:`.interpreter`), interpreted over intervals it is the overflow proof (:mod:`.proof`), printed it is
the listing for whoever writes neurocore microcode (:mod:`.listing`), and its length is its cost.

What an instruction can be is the table of operations (:mod:`.operations`): integer arithmetic, comparison, small
tables and leading-zero counting, and no division, no floating point and no loops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loihi_mmfree.fixedpoint.operations import MAX_REGISTER_BITS, OPERATIONS, Named


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Parameters
    ----------
    operation : str
        A key of `operations.OPERATIONS`.
    target : str
        The register written; empty for store and send.
    operands : tuple of str
        Registers; where the operation names something, the first one is that name.
    immediate : int
        Shift distance, bit count or literal, where the operation takes one; 0 elsewhere.
    bits : int
        Declared signed width of the target register, which the interval proof confirms; 0 without target.
    """

    operation: str
    target: str
    operands: tuple[str, ...]
    immediate: int = 0
    bits: int = 0

    @property
    def registers(self) -> tuple[str, ...]:
        """The registers this instruction reads."""
        return self.operands if OPERATIONS[self.operation].named is None else self.operands[1:]


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

    def loaded(self, named: Named) -> Mapping[str, int]:
        """Return the names of one kind that it loads, in order, with the bits of the widest register for each."""
        found: dict[str, int] = {}
        for each in self.instructions:
            operation = OPERATIONS[each.operation]
            if operation.named is named and operation.result is not None:
                found[each.operands[0]] = max(each.bits, found.get(each.operands[0], 0))
        return found

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the constants it loads."""
        return tuple(self.loaded(Named.CONSTANT))

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables it reads."""
        return tuple(self.loaded(Named.TABLE))

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
                kind: tuple(Port(_text(name), _whole(bits)) for name, bits in data[kind])
                for kind in ("inputs", "outputs", "states")
            }
            instructions = tuple(
                Instruction(
                    _text(operation), _text(target), tuple(map(_text, operands)), _whole(immediate), _whole(bits)
                )
                for operation, target, operands, immediate, bits in data["instructions"]
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a neuron program: {error}") from error
        return cls(ports["inputs"], ports["outputs"], ports["states"], instructions)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no name")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _validate(program: Program) -> None:
    """Check every instruction against its operation, single assignment and order of use; raise ValueError."""
    declared = {
        Named.INPUT: {port.name for port in program.inputs},
        Named.STATE: {port.name for port in program.states},
        Named.OUTPUT: {port.name for port in program.outputs},
    }
    _validate_ports(program)
    written: set[str] = set()
    done: set[tuple[Named | None, str]] = set()
    for position, each in enumerate(program.instructions):
        where = f"instruction {position} ({each.operation})"
        _validate_form(each, where)
        operation = OPERATIONS[each.operation]
        if operation.named in declared and each.operands[0] not in declared[operation.named]:
            raise ValueError(f"{where}: the program declares no {operation.named.value} {each.operands[0]!r}")
        unwritten = [register for register in each.registers if register not in written]
        if unwritten:
            raise ValueError(f"{where}: reads {unwritten} before it is written")
        if operation.result is not None:
            if not each.target or each.target in written:
                raise ValueError(f"{where}: register {each.target!r} is unnamed or written twice")
            written.add(each.target)
        elif (operation.named, each.operands[0]) in done:
            raise ValueError(f"{where}: {each.operands[0]!r} is written twice in a time step")
        else:
            done.add((operation.named, each.operands[0]))
    missing = [port.name for port in program.outputs if (Named.OUTPUT, port.name) not in done]
    missing += [port.name for port in program.states if (Named.STATE, port.name) not in done]
    if missing:
        raise ValueError(f"the program never writes {missing}")


def _validate_form(each: Instruction, where: str) -> None:
    """Check what an instruction says against what its operation takes."""
    operation = OPERATIONS.get(each.operation)
    if operation is None:
        raise ValueError(f"{where}: unknown operation; there are {', '.join(OPERATIONS)}")
    if len(each.operands) != operation.operands:
        raise ValueError(f"{where}: {operation.operands} operands, found {len(each.operands)}: {each.operands}")
    low, high = operation.immediate or (0, 0)
    if not low <= each.immediate <= high:
        raise ValueError(f"{where}: immediate {each.immediate} is not in {low}..{high}")
    if operation.result is None:
        if each.target or each.bits:
            raise ValueError(f"{where}: writes no register, found {each.target!r} of {each.bits} bits")
    elif not 2 <= each.bits <= MAX_REGISTER_BITS:
        raise ValueError(f"{where}: a register has 2 to {MAX_REGISTER_BITS} bits, found {each.bits}")


def _validate_ports(program: Program) -> None:
    for kind, ports in (("input", program.inputs), ("output", program.outputs), ("state", program.states)):
        names = [port.name for port in ports]
        if len(set(names)) < len(names):
            raise ValueError(f"an {kind} is declared twice: {names}")
        for port in ports:
            if not 2 <= port.bits <= MAX_REGISTER_BITS:
                raise ValueError(f"{kind} {port.name}: 2 to {MAX_REGISTER_BITS} bits, found {port.bits}")


@dataclass
class ProgramBuilder:
    """Writes a program instruction by instruction; every method returns the register it wrote.

    Widths are declared by the rules of the operations (a product has the bits of both factors less one, a sum one
    more); `bits=` declares a tighter one, which the interval proof then has to confirm.
    """

    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    widths: dict[str, int] = field(default_factory=dict)

    def write(self, operation: str, *operands: str, immediate: int = 0, bits: int | None = None) -> str:
        """Write any operation that has a result."""
        result = OPERATIONS[operation].result
        if result is None:
            raise ValueError(f"{operation} writes no register")
        each = Instruction(operation, f"r{len(self.widths)}", operands, immediate)
        if bits is None:
            if result.width is None:
                raise ValueError(f"{operation}: how wide {operands[0]} is has to be declared")
            bits = result.width(immediate, *(self.widths[name] for name in each.registers))
        self.instructions.append(replace(each, bits=bits))
        self.widths[each.target] = bits
        return each.target

    def input(self, name: str, bits: int) -> str:
        """Load what arrived at an input, and declare how wide it may be."""
        self.inputs[name] = bits
        return self.write("input", name, bits=bits)

    def state(self, name: str, bits: int) -> str:
        """Load a state variable as the last time step left it."""
        self.states[name] = bits
        return self.write("state", name, bits=bits)

    def constant(self, name: str, bits: int) -> str:
        """Load a constant: one value for each neuron, or one for all."""
        return self.write("constant", name, bits=bits)

    def immediate(self, value: int) -> str:
        """Load a literal."""
        return self.write("immediate", immediate=value)

    def add(self, a: str, b: str, bits: int | None = None) -> str:
        """Return a + b."""
        return self.write("add", a, b, bits=bits)

    def sub(self, a: str, b: str, bits: int | None = None) -> str:
        """Return a - b."""
        return self.write("sub", a, b, bits=bits)

    def mul(self, a: str, b: str, bits: int | None = None) -> str:
        """Return a * b."""
        return self.write("mul", a, b, bits=bits)

    def shift(self, a: str, right: int, bits: int | None = None) -> str:
        """Shift right with rounding by `right` places, or left without loss if it is negative."""
        if right == 0:
            return a
        return self.write("shift_left" if right < 0 else "shift_right", a, immediate=abs(right), bits=bits)

    def shift_right_by(self, a: str, distance: str, bits: int | None = None) -> str:
        """Shift right with rounding by a distance held in a register."""
        return self.write("shift_right_by", a, distance, bits=bits)

    def split(self, a: str, count: int) -> tuple[str, str]:
        """Return what lies above and what lies in the lowest `count` bits: a = high * 2**count + low."""
        high = self.write("high_bits", a, immediate=count)
        return high, self.write("low_bits", a, immediate=count)

    def absolute(self, a: str) -> str:
        """Return |a|."""
        return self.write("absolute", a)

    def minimum(self, a: str, b: str, bits: int | None = None) -> str:
        """Return the smaller one."""
        return self.write("min", a, b, bits=bits)

    def maximum(self, a: str, b: str, bits: int | None = None) -> str:
        """Return the larger one."""
        return self.write("max", a, b, bits=bits)

    def saturate(self, a: str, bits: int) -> str:
        """Clamp to +-(2**(bits-1) - 1); the clamped values are counted."""
        return self.write("saturate", a, immediate=bits)

    def select(self, condition: str, at_least_zero: str, below_zero: str) -> str:
        """Return the second register where the first is at least zero, the third elsewhere."""
        return self.write("select", condition, at_least_zero, below_zero)

    def lerp(self, weight: str, at_one: str, at_zero: str, bits: int) -> str:
        """Return the convex combination of two registers, `bits` fractional bits of weight, one rounding."""
        return self.write("lerp", weight, at_one, at_zero, immediate=bits)

    def exponent(self, a: str, bits: int) -> str:
        """Return the even exponent of a positive register for a mantissa of `bits` bits."""
        return self.write("exponent", a, immediate=bits)

    def mantissa(self, a: str, bits: int) -> str:
        """Return the mantissa of `bits` bits that belongs to `exponent`."""
        return self.write("mantissa", a, immediate=bits)

    def table(self, name: str, index: str, bits: int) -> str:
        """Look up entry `index` of a table."""
        return self.write("table", name, index, bits=bits)

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

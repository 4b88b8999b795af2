"""Triton source for a neuron group within the kernel of its region."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from loihi_mmfree.fixedpoint.operations import rule_for
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.sim.batched.kernels.text import KernelLines, What
from loihi_mmfree.sim.engine.kernels.programs.assemble import Assembled
from loihi_mmfree.sim.engine.kernels.programs.structure import Lane

NARROW_MESSAGE_BITS = 32
_CONSUMER = "the writer of GPU kernels (sim/batched/kernels/group.py)"

RULES: Mapping[str, Callable[..., str]] = {
    "add": lambda _, a, b: f"{a} + {b}",
    "sub": lambda _, a, b: f"{a} - {b}",
    "mul": lambda _, a, b: f"{a} * {b}",
    "shift_left": lambda n, a: f"{a} << {n}",
    "shift_right": lambda n, a: f"rounding_shift({a}, {n})",
    "shift_right_by": lambda _, a, d: f"rounding_shift({a}, {d} & 63)",
    "high_bits": lambda n, a: f"{a} >> {n}",
    "low_bits": lambda n, a: f"low_bits({a}, {n})",
    "absolute": lambda _, a: f"tl.abs({a})",
    "min": lambda _, a, b: f"tl.minimum({a}, {b})",
    "max": lambda _, a, b: f"tl.maximum({a}, {b})",
    "saturate": lambda n, a: f"saturate({a}, {n})",
    "select": lambda _, a, b, c: f"tl.where({a} >= 0, {b}, {c})",
    "lerp": lambda n, w, a, b: f"lerp({w}, {a}, {b}, {n})",
    "exponent": lambda n, a: f"even_exponent({a}, {n})",
    "mantissa": lambda n, a: f"mantissa({a}, {n})",
}
"""Operation on registers -> expression of (immediate, *operands), all of one type."""


class GroupWriter:
    """Writes one neuron group into a kernel."""

    def __init__(self, lines: KernelLines, number: int, node: NeuronGroup, assembled: Assembled) -> None:
        self.lines, self.number, self.node = lines, number, node
        self.assembled, self.program = assembled, node.program
        self.vector, self.proven = node.size > 1, bool(assembled.lanes)

    def write(self) -> dict[str, str]:
        """Write fixed registers, states and instructions; return the variable of each message."""
        self._load_fixed()
        self._load_states()
        stores, sent = [], {}
        for number, (operation, target, *operands) in enumerate(self.assembled.instructions):
            if operation == "store":
                stores.append((operands[0], self._register(operands[1])))
            elif operation == "send":
                sent[self.program.outputs[operands[0]].name] = self._send(*operands)
            else:
                self._instruction(number, operation, target, operands)
        for place, register in stores:
            self._store(place, register)
        return sent

    def _register(self, number: int) -> str:
        return f"g{self.number}r{number}"

    def _lane(self, number: int) -> Lane:
        return self.assembled.lanes[number] if self.proven else Lane.WIDE

    def _load_fixed(self) -> None:
        for number, (register, value) in enumerate(self.assembled.fixed):
            pointer = self.lines.argument(What.FIXED, self.number, str(number))
            where, mask = (" + lane", ", mask=mask, other=0") if len(value) > 1 else ("", "")
            kind = _kind(self._lane(len(self.assembled.instructions) + number), result=True)
            self.lines.before(f"{self._register(register)} = tl.load({pointer}{where}{mask}).to({kind})")

    def _load_states(self) -> None:
        self._states = []
        for number, port in enumerate(self.program.states):
            pointer = self.lines.argument(What.STATE, self.number, port.name)
            variable, kind = f"g{self.number}h{number}", self._state_kind(number)
            where = "sequence * SIZE + lane" if self.vector else "sequence"
            mask = ", mask=mask, other=0" if self.vector else ""
            self.lines.has_states = True
            self.lines.before(f"{variable} = tl.load({pointer} + {where}{mask}).to({kind})")
            self._states.append((variable, pointer, where))

    def _state_kind(self, number: int) -> str:
        return "tl.int32" if self.program.states[number].bits <= NARROW_MESSAGE_BITS else "tl.int64"

    def _store(self, place: int, register: str) -> None:
        variable, pointer, where = self._states[place]
        value = f"{register}.to({self._state_kind(place)})"
        if self.vector:
            value = f"({register} + tl.zeros([BLOCK], {self._state_kind(place)})).to({self._state_kind(place)})"
        self.lines.inside(f"{variable} = {value}")
        mask = ", mask=mask" if self.vector else ""
        self.lines.after(f"tl.store({pointer} + {where}, {variable}{mask})")

    def _send(self, place: int, register: int) -> str:
        port = self.program.outputs[place]
        kind = "tl.int32" if port.bits <= NARROW_MESSAGE_BITS else "tl.int64"
        variable = f"g{self.number}m{place}"
        self.lines.inside(f"{variable} = {self._register(register)}.to({kind})")
        if self.vector:
            self.lines.inside(f"{variable} = {variable} + tl.zeros([BLOCK], {kind})")
        return variable

    def _instruction(self, number: int, operation: str, target: int, operands: Sequence[int]) -> None:
        lines, lane, row = self.lines, self._lane(number), self.lines.instruction()
        register, inner = self._register(target), _kind(lane, result=False)
        immediate = f"n{row}"
        lines.before(f"{immediate} = tl.load(numbers + {2 * row}).to({inner})")
        special = _SPECIAL.get(operation)
        if special is not None:
            value = special(self, row, *operands)
        else:
            values = [self._operand(number, operation, place, each) for place, each in enumerate(operands)]
            if operation == "shift_right_by":
                lines.flag(f"({values[1]} < 0) | ({values[1]} > 62)", self.vector)
            value = rule_for(RULES, operation, _CONSUMER)(immediate, *values)
        before = f"g{self.number}t"
        if operation == "saturate":
            lines.inside(f"{before} = {value}")
            lines.clamp(f"{before} != {values[0]}", self.vector)
            value = before
        lines.inside(f"{register} = ({value}).to({_kind(lane, result=True)})")
        if not self.proven and operation not in _READERS:
            self._check_width(register, row)

    def _operand(self, number: int, operation: str, place: int, register: int) -> str:
        """A register in the type that the instruction computes in; the sign that selects keeps its own."""
        name = self._register(register)
        if operation == "select" and place == 0:
            return name
        return f"{name}.to({_kind(self._lane(number), result=False)})"

    def _check_width(self, register: str, row: int, function: str = "overflows") -> None:
        bits = f"b{row}"
        self.lines.before(f"{bits} = tl.load(numbers + {2 * row + 1})")
        self.lines.flag(f"{function}({register}, {bits})", self.vector)

    def input(self, row: int, place: int) -> str:
        """What arrives, in every neuron."""
        value = self.lines.value(self.node.inputs[place])
        self._check_width(value, row, "outside")
        return value

    def state(self, row: int, place: int) -> str:
        """A state, as the last token left it: stores come last."""
        variable = self._states[place][0]
        self._check_width(variable, row, "outside")
        return variable

    def table(self, row: int, place: int, register: int) -> str:
        """Entries of a table; outside of it the flag is raised, and the first is taken."""
        pointer = self.lines.argument(What.TABLE, self.number, self.program.tables[place])
        index, mask = self._register(register), ", mask=mask, other=0" if self.vector else ""
        if not self.proven:
            # Its immediate is the number of its entries.
            wrong = f"({index} < 0) | ({index} >= n{row})"
            self.lines.flag(wrong, self.vector)
            index = f"tl.where({wrong}, 0, {index})"
        elif self.vector:
            # A register that is the same for all neurons still gives each its entry.
            index = f"({index} + tl.zeros([BLOCK], tl.int32))"
        return f"tl.load({pointer} + {index}{mask})"


def _kind(lane: Lane, result: bool) -> str:
    """The type in which an instruction computes, or that of its result."""
    wide = lane is Lane.WIDE or (lane is Lane.WIDE_INSIDE and not result)
    return "tl.int64" if wide else "tl.int32"


_READERS = ("input", "state")
_SPECIAL: Mapping[str, Callable[..., str]] = {
    "input": GroupWriter.input,
    "state": GroupWriter.state,
    "table": GroupWriter.table,
}
"""Operations that reach outside of the registers."""

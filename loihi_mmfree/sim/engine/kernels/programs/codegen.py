"""Machine code for neuron programs, written with LLVM: one function for each structure of a program.

What differs from block to block of a network (immediates, shift distances, widths, constants) is read from
the assembled code when the function runs, so that a network of any depth needs about a dozen functions. The
code is made of generic vectors, which LLVM fits to the processor it finds.

Where inputs and states within their declared widths prove all other registers (`ranges.widths_hold`), a
function looks at those first. If they are, as a proven network's always are, it computes in lanes of 32 bits
wherever they suffice, and without further checks; if not, it counts every overflow as the specification does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import ir

from loihi_mmfree.fixedpoint.operations import rule_for
from loihi_mmfree.sim.engine.kernels.conventions import MESSAGE_FAULT, SHIFT_FAULT, TABLE_FAULT
from loihi_mmfree.sim.engine.kernels.lanes import ARITHMETIC, FLAG, INT, LONG, Lanes, load_word
from loihi_mmfree.sim.engine.kernels.programs.assemble import BITS, IMMEDIATE, WIDTH
from loihi_mmfree.sim.engine.kernels.programs.structure import Lane, Structure

LANES = 16
CHECKED_LANES = 8
"""Lanes where everything is computed in 64 bits."""
_FUNCTION = ir.FunctionType(ir.VoidType(), [LONG, LONG, LONG, LONG])


def write_programs(functions: dict[str, Structure]) -> str:
    """Return LLVM assembly of a module of functions.

    A function has the C signature void (int64 neurons, address of numbers int64 [instructions, WIDTH], address
    of addresses int64 [...], address of counters int64 [3]). The addresses are those of inputs and outputs
    (int32), states and fixed registers (int64), then address (int32) and length of each table. The counters
    are saturations, overflows, and bits of faults (`conventions.TABLE_FAULT` and so on).
    """
    module = ir.Module("neuron_programs")
    for name, structure in functions.items():
        _Writer(module, name, structure).write()
    return str(module)


class _Writer:
    """Writes one function."""

    def __init__(self, module: ir.Module, name: str, structure: Structure) -> None:
        self.structure = structure
        self.function = ir.Function(module, _FUNCTION, name)
        self.neurons, self.numbers, addresses, self.counters = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.pointers = [load_word(self.builder, addresses, number) for number in range(structure.addresses)]

    def write(self) -> None:
        """Write the function."""
        if not self.structure.lanes:
            self._run(CHECKED_LANES, proven=False)
            return
        fits, wide = (self.function.append_basic_block(name) for name in ("fits", "wide"))
        self.builder.cbranch(self._all_fit(), fits, wide)
        self.builder.position_at_end(fits)
        self._run(LANES, proven=True)
        self.builder.position_at_end(wide)
        self._run(1, proven=False)

    def _run(self, most: int, proven: bool) -> None:
        """Compute all neurons, first in vectors, then one by one."""
        for lanes, first, end in self._parts(most):
            body = _Body(self, lanes, proven)
            starts = [body.lanes.number(0, body.count_kind)] * 3
            for number, total in enumerate(self.loop(lanes, first, end, starts, body.write)):
                self._count(number, body.lanes, total)
        self.builder.ret_void()

    def _parts(self, most: int) -> list[tuple[int, ir.Value, ir.Value]]:
        if most == 1:
            return [(1, LONG(0), self.neurons)]
        vectors = self.builder.and_(self.neurons, LONG(-most))
        return [(most, LONG(0), vectors), (1, vectors, self.neurons)]

    def _all_fit(self) -> ir.Value:
        """Whether all inputs and states are within +-(2**(bits-1) - 1)."""
        result: ir.Value = FLAG(1)
        for lanes, first, end in self._parts(LANES):
            body = _Body(self, lanes, proven=True)
            starts = [body.lanes.number(0, FLAG)]
            (outside,) = self.loop(lanes, first, end, starts, body.find_outside)
            mask = self.builder.bitcast(outside, ir.IntType(lanes))
            none = self.builder.icmp_unsigned("==", mask, ir.Constant(mask.type, 0))
            result = self.builder.and_(result, none)
        return result

    def loop(
        self,
        step: int,
        first: ir.Value,
        end: ir.Value,
        starts: list[Any],
        write: Callable[[ir.Value, list[Any]], list[Any]],
    ) -> list[Any]:
        """Write a loop; `write` is given the index and what the loop carries, and returns the latter anew."""
        builder, before = self.builder, self.builder.block
        inside, after = (self.function.append_basic_block(f"{part}_{step}") for part in ("body", "after"))
        builder.cbranch(builder.icmp_signed("<", first, end), inside, after)
        builder.position_at_end(inside)
        index, *carried = [builder.phi(each.type) for each in (first, *starts)]
        results = write(index, list(carried))
        following = builder.add(index, LONG(step))
        last = builder.block
        builder.cbranch(builder.icmp_signed("<", following, end), inside, after)
        for phi, start, result in zip((index, *carried), (first, *starts), (following, *results), strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(result, last)
        builder.position_at_end(after)
        totals = [builder.phi(each.type) for each in starts]
        for phi, start, result in zip(totals, starts, results, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(result, last)
        return totals

    def _count(self, number: int, lanes: Lanes, vector: ir.Value) -> None:
        """Add a vector of counts (or join bits of faults) to a counter in memory."""
        builder = self.builder
        address = builder.inttoptr(builder.add(self.counters, LONG(8 * number)), LONG.as_pointer())
        total = builder.load(address, typ=LONG)
        if number == 2:
            total = builder.or_(total, lanes.cast(lanes.join(vector), LONG))
        else:
            total = builder.add(total, lanes.cast(lanes.sum(vector), LONG))
        builder.store(total, address)


class _Body:
    """What happens to some neurons at once, in a loop over them.

    Parameters
    ----------
    writer : _Writer
        Of the function; its builder stands before the loop.
    count : int
        Neurons at once.
    proven : bool
        Inputs and states are known to fit.
    """

    def __init__(self, writer: _Writer, count: int, proven: bool) -> None:
        self.structure, self.builder, self.numbers = writer.structure, writer.builder, writer.numbers
        self.lanes, self.proven = Lanes(writer.builder, count), proven
        self.count_kind = INT if proven else LONG
        structure, pointers = self.structure, iter(writer.pointers)
        self.inputs, self.outputs, self.states, self.fixed = (
            [next(pointers) for _ in range(length)]
            for length in (len(structure.inputs), structure.outputs, structure.states, len(structure.fixed))
        )
        self.tables = [(next(pointers), next(pointers)) for _ in range(structure.tables)]
        self.index: ir.Value = LONG(0)
        self._prepare()

    def _lane(self, number: int) -> Lane:
        return self.structure.lanes[number] if self.proven else Lane.WIDE

    def _prepare(self) -> None:
        """Load before the loop what is the same for all neurons."""
        lanes = self.lanes
        self.registers: dict[int, Any] = {}
        for number, (register, each) in enumerate(self.structure.fixed):
            if not each:
                value = load_word(self.builder, self.fixed[number], 0)
                self.registers[register] = lanes.splat(lanes.cast(value, self._fixed_kind(number)))
        self.immediates, self.widths, self.shared = [], [], {}
        for number, (operation, _, first, *_) in enumerate(self.structure.instructions):
            kind = INT if self._lane(number) == Lane.NARROW else LONG
            value = load_word(self.builder, self.numbers, number * WIDTH + IMMEDIATE)
            self.immediates.append(lanes.splat(lanes.cast(value, kind)))
            self.widths.append(self._width(number))
            if operation == "input" and not self.structure.inputs[first]:
                value = load_word(self.builder, self.inputs[first], 0, INT)
                self.shared[number] = lanes.splat(lanes.cast(value, kind))

    def _width(self, number: int) -> tuple[ir.Value, ir.Value]:
        """Return half of what a register of the declared width can hold, and all of it."""
        one = self.lanes.number(1, LONG)
        bits = self.lanes.splat(load_word(self.builder, self.numbers, number * WIDTH + BITS))
        half = self.builder.shl(one, self.builder.sub(bits, one))
        return half, self.builder.add(half, half)

    def _fixed_kind(self, number: int) -> ir.IntType:
        return LONG if self._lane(len(self.structure.instructions) + number) == Lane.WIDE else INT

    def _at(self, pointer: ir.Value, kind: ir.IntType) -> ir.Value:
        return self.builder.add(pointer, self.builder.mul(self.index, LONG(kind.width // 8)))

    def find_outside(self, index: ir.Value, carried: list[Any]) -> list[Any]:
        """Note the neurons with an input or state beyond +-(2**(bits-1) - 1)."""
        builder, lanes, (outside,) = self.builder, self.lanes, carried
        self.index = index
        for number, (operation, _, operand, *_) in enumerate(self.structure.instructions):
            if operation not in _READERS:
                continue
            value = _READERS[operation](self, number, operand)
            half = self.widths[number][0]
            limit = lanes.cast(builder.sub(half, lanes.like(1, half)), value.type.element)
            wrong = builder.icmp_unsigned(">", builder.add(value, limit), builder.add(limit, limit))
            outside = builder.or_(outside, wrong)
        return [outside]

    def write(self, index: ir.Value, carried: list[Any]) -> list[Any]:
        """Write the instructions; carried are saturations, overflows and faults."""
        lanes = self.lanes
        self.index = index
        self.saturations, self.overflows, self.faults = carried
        for number, (register, each) in enumerate(self.structure.fixed):
            if each:
                value = lanes.load(self._at(self.fixed[number], LONG), LONG)
                self.registers[register] = lanes.cast(value, self._fixed_kind(number))
        stores = []
        for number, (operation, target, *operands) in enumerate(self.structure.instructions):
            if operation == "store":
                stores.append((self.states[operands[0]], self.registers[operands[1]]))
            elif operation == "send":
                self._send(self.outputs[operands[0]], self.registers[operands[1]])
            else:
                kind = LONG if self._lane(number) == Lane.WIDE else INT
                value = lanes.cast(self._evaluate(number, operation, operands), kind)
                self.registers[target] = value
                self._check(number, value)
        # Only now: a state is read as the last time step left it.
        for pointer, value in stores:
            lanes.store(lanes.cast(value, LONG), self._at(pointer, LONG))
        return [self.saturations, self.overflows, self.faults]

    def _check(self, number: int, value: ir.Value) -> None:
        """Count values that are wider than their register."""
        if self.structure.strict and not self.proven:
            half, whole = self.widths[number]
            wide = self.builder.icmp_unsigned(">=", self.builder.add(value, half), whole)
            self.overflows = self.builder.add(self.overflows, self._ones(wide))

    def _ones(self, flags: ir.Value) -> ir.Value:
        return self.builder.zext(flags, self.lanes.vector(self.count_kind))

    def _fault(self, wrong: ir.Value, bit: int) -> None:
        met, none = (self.lanes.number(value, self.count_kind) for value in (bit, 0))
        self.faults = self.builder.or_(self.faults, self.builder.select(wrong, met, none))

    def _send(self, pointer: ir.Value, value: ir.Value) -> None:
        narrow = self.lanes.cast(value, INT)
        if not self.proven:
            wide = self.lanes.cast(narrow, value.type.element)
            self._fault(self.builder.icmp_signed("!=", wide, value), MESSAGE_FAULT)
        self.lanes.store(narrow, self._at(pointer, INT))

    def _evaluate(self, number: int, operation: str, operands: list[int]) -> ir.Value:
        """Return what an instruction computes, as wide as it computes it."""
        if operation in SPECIAL:
            return SPECIAL[operation](self, number, *operands)
        rule = rule_for(ARITHMETIC, operation, "the code generator of the kernels (kernels/lanes.py)")
        return rule(self.lanes, self.immediates[number], *(self._operand(number, each) for each in operands))

    def _operand(self, number: int, register: int) -> ir.Value:
        """Return a register as wide as an instruction computes."""
        kind = INT if self._lane(number) == Lane.NARROW else LONG
        return self.lanes.cast(self.registers[register], kind)

    def input(self, number: int, place: int) -> ir.Value:
        """Load what arrives."""
        if number in self.shared:
            return self.shared[number]
        return self.lanes.load(self._at(self.inputs[place], INT), INT)

    def state(self, _: int, place: int) -> ir.Value:
        """Load a state."""
        return self.lanes.load(self._at(self.states[place], LONG), LONG)

    def table(self, _: int, place: int, register: int) -> ir.Value:
        """Look up entries of a table."""
        (pointer, length), index = self.tables[place], self.registers[register]
        if not self.proven:
            outside = self.builder.icmp_unsigned(">=", index, self.lanes.splat(length))
            self._fault(outside, TABLE_FAULT)
            index = self.builder.select(outside, self.lanes.like(0, index), index)
        return self.lanes.lookup(pointer, index)

    def select(self, number: int, condition: int, *ends: int) -> ir.Value:
        """Choose between two registers by the sign of a third, which keeps its own width."""
        sign = self.registers[condition]
        yes = self.builder.icmp_signed(">=", sign, self.lanes.like(0, sign))
        return self.builder.select(yes, *(self._operand(number, each) for each in ends))

    def saturate(self, number: int, register: int) -> ir.Value:
        """Clamp and count what is clamped."""
        before = self._operand(number, register)
        value = self.lanes.saturate(before, self.immediates[number])
        clamped = self.builder.icmp_signed("!=", value, before)
        self.saturations = self.builder.add(self.saturations, self._ones(clamped))
        return value

    def shift_right_by(self, number: int, register: int, by: int) -> ir.Value:
        """Shift by what a register holds."""
        value, distance = self._operand(number, register), self._operand(number, by)
        most = self.lanes.like(64, distance)
        self._fault(self.builder.icmp_unsigned(">=", distance, most), SHIFT_FAULT)
        return self.lanes.rounding_shift(value, self.builder.and_(distance, self.lanes.like(63, distance)))


_READERS: Mapping[str, Callable[..., ir.Value]] = {"input": _Body.input, "state": _Body.state}
SPECIAL: Mapping[str, Callable[..., ir.Value]] = {
    **_READERS,
    "table": _Body.table,
    "select": _Body.select,
    "saturate": _Body.saturate,
    "shift_right_by": _Body.shift_right_by,
}
"""Operations that are more than arithmetic on registers of one width."""

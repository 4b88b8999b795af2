"""Machine code for neuron programs, written with LLVM: one function for each structure of a program.

What differs from block to block of a network (immediates, shift distances, widths, constants) is read from
the assembled code when the function runs, so that a network of any depth needs about a dozen functions. The
code is made of generic vectors, which LLVM fits to the processor it finds.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from loihi_mmfree.fixedpoint.kernels.assemble import BITS, IMMEDIATE, WIDTH, Code
from loihi_mmfree.fixedpoint.kernels.layout import MESSAGE_FAULT, SHIFT_FAULT, TABLE_FAULT
from loihi_mmfree.fixedpoint.kernels.structure import Structure

LANES = 8
_INT, _LONG, _FLAG = ir.IntType(32), ir.IntType(64), ir.IntType(1)
_FUNCTION = ir.FunctionType(ir.VoidType(), [_LONG, _LONG, _LONG, _LONG])


class CompiledPrograms:
    """Functions in memory; they live as long as this object.

    A function has the C signature void (int64 neurons, address of code int64 [instructions, WIDTH], address
    of addresses int64 [...], address of counters int64 [3]). The addresses are those of inputs and outputs
    (int32), states and fixed registers (int64), then address (int32) and length of each table. The counters
    are saturations, overflows, and bits of faults (`layout.TABLE_FAULT` and so on).
    """

    def __init__(self, structures: list[Structure]) -> None:
        module = ir.Module("neuron_programs")
        names = {each: f"program_{number}" for number, each in enumerate(dict.fromkeys(structures))}
        for structure, name in names.items():
            _Writer(module, name, structure).write()
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = _target_machine()
        parsed = llvm.parse_assembly(str(module))
        parsed.verify()
        self._engine = llvm.create_mcjit_compiler(parsed, machine)
        self._engine.finalize_object()
        self.addresses = {each: self._engine.get_function_address(name) for each, name in names.items()}


def _target_machine() -> llvm.TargetMachine:
    """Return what numba generates code for too, so that its settings hold here."""
    from numba.core.registry import cpu_target

    triple, name, features = cpu_target.target_context.codegen().magic_tuple()
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(cpu=name, features=features, opt=2, jit=True)


class _Writer:
    """Writes one function: a loop over vectors, then one over what is left."""

    def __init__(self, module: ir.Module, name: str, structure: Structure) -> None:
        self.structure = structure
        self.function = ir.Function(module, _FUNCTION, name)
        self.neurons, self.code, self.addresses, self.counters = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.pointers: list[Any] = []
        self.lanes = LANES

    def write(self) -> None:
        """Write the function."""
        builder = self.builder
        self.pointers = [self._word(self.addresses, number) for number in range(self.structure.addresses)]
        vectors = builder.and_(self.neurons, _LONG(-LANES))
        self._loop(LANES, _LONG(0), vectors)
        self._loop(1, vectors, self.neurons)
        builder.ret_void()

    def _word(self, address: ir.Value, number: int) -> ir.Value:
        at = self.builder.add(address, _LONG(8 * number))
        return self.builder.load(self.builder.inttoptr(at, _LONG.as_pointer()), typ=_LONG)

    def _splat(self, value: ir.Value) -> ir.Value:
        kind = ir.VectorType(value.type, self.lanes)
        single = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, _INT(0))
        return self.builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(_INT, self.lanes), None))

    def _number(self, value: int) -> ir.Constant:
        return ir.Constant(ir.VectorType(_LONG, self.lanes), [value] * self.lanes)

    def _loop(self, lanes: int, first: ir.Value, end: ir.Value) -> None:
        self.lanes = lanes
        builder = self.builder
        self._prepare()
        before = builder.block
        body, after = (self.function.append_basic_block(f"{part}_{lanes}") for part in ("body", "after"))
        zero = self._number(0)
        builder.cbranch(builder.icmp_signed("<", first, end), body, after)
        builder.position_at_end(body)
        self.index = builder.phi(_LONG)
        counts = [builder.phi(zero.type) for _ in range(3)]
        self.saturations, self.overflows, self.faults = counts
        self._body()
        following = builder.add(self.index, _LONG(lanes))
        results = [self.saturations, self.overflows, self.faults]
        builder.cbranch(builder.icmp_signed("<", following, end), body, after)
        for phi, start, result in ((self.index, first, following), *zip(counts, [zero] * 3, results, strict=True)):
            phi.add_incoming(start, before)
            phi.add_incoming(result, builder.block)
        last = builder.block
        builder.position_at_end(after)
        totals = [builder.phi(zero.type) for _ in results]
        for total, result in zip(totals, results, strict=True):
            total.add_incoming(zero, before)
            total.add_incoming(result, last)
        for number, total in enumerate(totals):
            self._count(number, total)

    def _count(self, number: int, vector: ir.Value) -> None:
        """Add a vector of counts (or join bits of faults) to a counter in memory."""
        builder = self.builder
        address = builder.inttoptr(builder.add(self.counters, _LONG(8 * number)), _LONG.as_pointer())
        join = builder.or_ if number == 2 else builder.add
        total = builder.load(address, typ=_LONG)
        for lane in range(self.lanes):
            total = join(total, builder.extract_element(vector, _INT(lane)))
        builder.store(total, address)

    def _prepare(self) -> None:
        """Load before the loop what is the same for all neurons."""
        self.registers: dict[int, Any] = {}
        first = len(self.structure.inputs) + self.structure.outputs + self.structure.states
        for number, (register, each) in enumerate(self.structure.fixed):
            if not each:
                pointer = self.builder.inttoptr(self.pointers[first + number], _LONG.as_pointer())
                self.registers[register] = self._splat(self.builder.load(pointer, typ=_LONG))
        self.immediates, self.widths = [], []
        for number in range(len(self.structure.code)):
            at = number * WIDTH
            self.immediates.append(self._splat(self._word(self.code, at + IMMEDIATE)))
            one = self._number(1)
            bits = self._splat(self._word(self.code, at + BITS))
            half = self.builder.shl(one, self.builder.sub(bits, one))
            self.widths.append((half, self.builder.add(half, half)))

    def _at(self, pointer: ir.Value, kind: ir.IntType) -> ir.Value:
        size = kind.width // 8
        address = self.builder.add(pointer, self.builder.mul(self.index, _LONG(size)))
        return self.builder.inttoptr(address, ir.VectorType(kind, self.lanes).as_pointer())

    def _load(self, pointer: ir.Value, kind: ir.IntType) -> ir.Value:
        vector = ir.VectorType(kind, self.lanes)
        loaded = self.builder.load(self._at(pointer, kind), align=kind.width // 8, typ=vector)
        return loaded if kind is _LONG else self.builder.sext(loaded, ir.VectorType(_LONG, self.lanes))

    def _body(self) -> None:
        structure, builder = self.structure, self.builder
        ports, outputs = len(structure.inputs), structure.outputs
        states = self.pointers[ports + outputs :]
        constants = states[structure.states :]
        tables = constants[len(structure.fixed) :]
        for number, (register, each) in enumerate(structure.fixed):
            if each:
                self.registers[register] = self._load(constants[number], _LONG)
        stores = []
        for number, (code, target, *operands) in enumerate(structure.code):
            match Code(code):
                case Code.INPUT:
                    value = self._input(operands[0])
                case Code.STATE:
                    value = self._load(states[operands[0]], _LONG)
                case Code.STORE:
                    stores.append((states[operands[0]], self.registers[operands[1]]))
                    continue
                case Code.SEND:
                    self._send(self.pointers[ports + operands[0]], self.registers[operands[1]])
                    continue
                case Code.TABLE:
                    pointer, length = tables[2 * operands[0]], tables[2 * operands[0] + 1]
                    value = self._table(pointer, length, self.registers[operands[1]])
                case _:
                    value = self._arithmetic(Code(code), self.immediates[number], operands)
            self.registers[target] = value
            if structure.strict:
                half, whole = self.widths[number]
                wide = builder.icmp_unsigned(">=", builder.add(value, half), whole)
                self.overflows = builder.add(self.overflows, builder.zext(wide, value.type))
        for pointer, value in stores:
            builder.store(value, self._at(pointer, _LONG), align=8)

    def _input(self, number: int) -> ir.Value:
        pointer = self.pointers[number]
        if self.structure.inputs[number]:
            return self._load(pointer, _INT)
        one = self.builder.load(self.builder.inttoptr(pointer, _INT.as_pointer()), typ=_INT)
        return self._splat(self.builder.sext(one, _LONG))

    def _send(self, pointer: ir.Value, value: ir.Value) -> None:
        builder = self.builder
        narrow = builder.trunc(value, ir.VectorType(_INT, self.lanes))
        self._fault(builder.icmp_signed("!=", builder.sext(narrow, value.type), value), MESSAGE_FAULT)
        builder.store(narrow, self._at(pointer, _INT), align=4)

    def _fault(self, wrong: ir.Value, bit: int) -> None:
        met = self.builder.select(wrong, self._number(bit), self._number(0))
        self.faults = self.builder.or_(self.faults, met)

    def _table(self, pointer: ir.Value, length: ir.Value, index: ir.Value) -> ir.Value:
        builder = self.builder
        outside = builder.icmp_unsigned(">=", index, self._splat(length))
        self._fault(outside, TABLE_FAULT)
        index = builder.select(outside, self._number(0), index)
        found = ir.Constant(ir.VectorType(_INT, self.lanes), ir.Undefined)
        for lane in range(self.lanes):
            offset = builder.mul(builder.extract_element(index, _INT(lane)), _LONG(4))
            entry = builder.inttoptr(builder.add(pointer, offset), _INT.as_pointer())
            found = builder.insert_element(found, builder.load(entry, typ=_INT), _INT(lane))
        return builder.sext(found, index.type)

    def _intrinsic(self, name: str, *arguments: ir.Value) -> ir.Value:
        kind = ir.VectorType(_LONG, self.lanes)
        full = f"llvm.{name}.v{self.lanes}i64"
        module = self.builder.module
        function = module.globals.get(full) or ir.Function(
            module, ir.FunctionType(kind, [each.type for each in arguments]), full
        )
        return self.builder.call(function, arguments)

    def _rounding_shift(self, value: ir.Value, distance: ir.Value) -> ir.Value:
        half = self.builder.lshr(self.builder.shl(self._number(1), distance), self._number(1))
        return self.builder.ashr(self.builder.add(value, half), distance)

    def _arithmetic(self, code: Code, immediate: ir.Value, operands: list[int]) -> ir.Value:
        builder = self.builder
        # An operand that the instruction does not have is given as register 0, which may not exist yet.
        x, y, w = (self.registers.get(each) for each in operands)
        one, zero = self._number(1), self._number(0)
        match code:
            case Code.ADD:
                return builder.add(x, y)
            case Code.SUB:
                return builder.sub(x, y)
            case Code.MUL:
                return builder.mul(x, y)
            case Code.SHIFT_LEFT:
                return builder.shl(x, immediate)
            case Code.SHIFT_RIGHT:
                return self._rounding_shift(x, immediate)
            case Code.SHIFT_RIGHT_BY:
                self._fault(builder.icmp_unsigned(">=", y, self._number(64)), SHIFT_FAULT)
                return self._rounding_shift(x, builder.and_(y, self._number(63)))
            case Code.HIGH_BITS:
                return builder.ashr(x, immediate)
            case Code.LOW_BITS:
                return builder.and_(x, builder.sub(builder.shl(one, immediate), one))
            case Code.ABSOLUTE:
                return self._intrinsic("smax", x, builder.sub(zero, x))
            case Code.MIN:
                return self._intrinsic("smin", x, y)
            case Code.MAX:
                return self._intrinsic("smax", x, y)
            case Code.SATURATE:
                limit = builder.sub(builder.shl(one, builder.sub(immediate, one)), one)
                value = self._intrinsic("smin", self._intrinsic("smax", x, builder.sub(zero, limit)), limit)
                clamped = builder.zext(builder.icmp_signed("!=", value, x), value.type)
                self.saturations = builder.add(self.saturations, clamped)
                return value
            case Code.SELECT:
                return builder.select(builder.icmp_signed(">=", x, zero), y, w)
            case Code.LERP:
                rest = builder.sub(builder.shl(one, immediate), x)
                return self._rounding_shift(builder.add(builder.mul(x, y), builder.mul(rest, w)), immediate)
            case Code.EXPONENT:
                return self._exponent(x, immediate)
            case Code.MANTISSA:
                return self._mantissa(x, immediate)
            case _:
                raise AssertionError(code)

    def _exponent(self, value: ir.Value, bits: ir.Value) -> ir.Value:
        builder = self.builder
        kind = value.type
        full = f"llvm.ctlz.v{self.lanes}i64"
        function = builder.module.globals.get(full) or ir.Function(
            builder.module, ir.FunctionType(kind, [kind, _FLAG]), full
        )
        length = builder.sub(self._number(64), builder.call(function, [value, _FLAG(0)]))
        excess = builder.sub(length, bits)
        even = builder.add(excess, builder.and_(excess, self._number(1)))
        return builder.select(builder.icmp_signed(">", value, self._number(0)), even, self._number(0))

    def _mantissa(self, value: ir.Value, bits: ir.Value) -> ir.Value:
        builder = self.builder
        zero, one = self._number(0), self._number(1)
        exponent = self._exponent(value, bits)
        left = self._intrinsic("smax", builder.sub(zero, exponent), zero)
        right = self._intrinsic("smax", exponent, zero)
        shifted = self._rounding_shift(builder.shl(value, left), right)
        return self._intrinsic("smin", shifted, builder.sub(builder.shl(one, bits), one))

"""Compiled programs give what the NumPy interpreter gives, instruction by instruction and altogether."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np
import pytest

from loihi_mmfree.fixedpoint.interpreter import Machine, run_program
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.operations import OPERATIONS, Named, Operand, Operation, Result
from loihi_mmfree.fixedpoint.program import Instruction, Port, Program, ProgramBuilder

pytest.importorskip("numba")

from loihi_mmfree.sim.engine.kernels.conventions import MESSAGE_FAULT, SHIFT_FAULT, TABLE_FAULT
from loihi_mmfree.sim.engine.kernels.lanes import ARITHMETIC
from loihi_mmfree.sim.engine.kernels.programs.assemble import assemble
from loihi_mmfree.sim.engine.kernels.programs.ranges import NARROW_BITS, RULES, Rule, widths_hold
from loihi_mmfree.sim.engine.kernels.programs.structure import Structure
from loihi_mmfree.sim.engine.kernels.runtime.native import CompiledPrograms

Arrays = Mapping[str, np.ndarray]
LENGTHS = [1, 3, 31, 64, 65, 128]
TABLE = np.arange(-50, 47, dtype=np.int64) ** 3
RandomProgram = Callable[..., Program]


@pytest.fixture(autouse=True, scope="module")
def kept_nowhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile anew, and leave no machine code behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_CACHE_DIR", str(tmp_path_factory.mktemp("objects")))
        yield


@cache
def compile_structure(structure: Structure) -> CompiledPrograms:
    return CompiledPrograms([structure])


def run_compiled(
    program: Program, constants: Arrays, tables: Arrays, inputs: Arrays, states: Arrays
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray, int]:
    """Run a program on [T, n] inputs as machine code; returns outputs, states, counts [T, 2], faults."""
    shape = next(iter(inputs.values())).shape
    assembled = assemble(program, constants, tables, strict=True, neurons=shape[1])
    structure = Structure(
        instructions=assembled.instructions,
        fixed=tuple((register, value.size > 1) for register, value in assembled.fixed),
        inputs=(True,) * len(program.inputs),
        outputs=len(program.outputs),
        states=len(program.states),
        tables=len(program.tables),
        strict=True,
        lanes=assembled.lanes,
    )
    compiled = compile_structure(structure)
    arguments = (ctypes.c_int64,) * 4
    function = ctypes.CFUNCTYPE(None, *arguments)(compiled.addresses[structure])
    arriving = [inputs[port.name].astype(np.int32) for port in program.inputs]
    outputs = {port.name: np.full(shape, 77, dtype=np.int32) for port in program.outputs}
    after = {name: value.copy() for name, value in states.items()}
    stored = [tables[name].astype(np.int32) for name in program.tables]
    counters, counted = np.zeros(3, dtype=np.int64), []
    for token in range(shape[0]):
        buffers = [each[token] for each in (*arriving, *outputs.values())]
        buffers += [after[port.name] for port in program.states] + [value for _, value in assembled.fixed]
        links = [each.ctypes.data for each in buffers]
        links += [number for each in stored for number in (each.ctypes.data, each.size)]
        addresses = np.array([*links, 0], dtype=np.int64)
        function(shape[1], assembled.numbers.ctypes.data, addresses.ctypes.data, counters.ctypes.data)
        counted.append(counters[:2].copy())
        counters[:2] = 0
    return outputs, after, np.stack(counted) + assembled.fixed_counts, int(counters[2])


def assert_equal_to_specification(program: Program, constants: Arrays, tables: Arrays, inputs: Arrays) -> None:
    shape = next(iter(inputs.values())).shape
    states = {port.name: np.arange(shape[1], dtype=np.int64) - 5 for port in program.states}
    outputs, after, counted, fault = run_compiled(program, constants, tables, inputs, states)
    specification = Machine(constants, tables, strict=True, neurons=shape[1])
    expected_states = dict(states)
    expected = run_program(program, specification, inputs, expected_states)
    assert fault == 0
    for name, value in expected.items():
        np.testing.assert_array_equal(outputs[name], np.broadcast_to(value, shape), err_msg=name)
    for name, value in expected_states.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    np.testing.assert_array_equal(counted, specification.counted)


def one_instruction(operation: str, immediate: int = 0, bits: int = 24) -> Program:
    """A program that sends what an operation makes of its inputs, in0, in1 and so on."""
    inputs = range(len(OPERATIONS[operation].registers))
    names = tuple(f"r{number}" for number in inputs)
    loads = tuple(Instruction("input", f"r{number}", (f"in{number}",), 0, 24) for number in inputs)
    body = Instruction(operation, "result", names, immediate, bits)
    send = Instruction("send", "", ("out", "result"))
    ports = tuple(Port(f"in{number}", 24) for number in inputs)
    return Program(ports, (Port("out", 24),), (), (*loads, body, send))


def computing() -> Iterator[str]:
    """The operations on registers alone."""
    for name, each in OPERATIONS.items():
        if each.result is not None and each.named is None and each.registers:
            yield name


def _immediates(operation: str) -> tuple[int, ...]:
    """Immediates from the least to what 24 bits still show."""
    low, high = OPERATIONS[operation].immediate or (0, 0)
    return tuple(dict.fromkeys(min(low + more, high) for more in (0, 1, 6, 14, 20)))


@pytest.mark.parametrize("size", LENGTHS)
@pytest.mark.parametrize(
    ("operation", "immediate"), [(name, each) for name in computing() for each in _immediates(name)]
)
def test_every_instruction(operation: str, immediate: int, size: int) -> None:
    random = np.random.default_rng(size)
    # What a product or a shift makes of them has to fit a message.
    largest = 2**30 >> immediate if operation == "shift_left" else 2**23 - 1
    limit = 4095 if OPERATIONS[operation].result.intermediate and operation != "shift_left" else largest
    inputs = {}
    for number, each in enumerate(OPERATIONS[operation].registers):
        low, high = each.allowed(immediate, 0) if each.allowed else (-limit, limit)
        low, high = max(low, -limit), min(high, limit)
        value = random.integers(low, high, size=(3, size), endpoint=True)
        value[0, :1], value[1, -1:] = max(low, 0), high
        inputs[f"in{number}"] = value
    assert_equal_to_specification(one_instruction(operation, immediate, bits=12), {}, {}, inputs)


@pytest.mark.parametrize("size", LENGTHS)
@pytest.mark.parametrize(
    ("operation", "immediate"),
    [(operation, bits) for operation in ("lerp", "exponent", "mantissa") for bits in (2, 8, 12)],
)
def test_instructions_agree_also_on_what_the_proof_excludes(operation: str, immediate: int, size: int) -> None:
    random = np.random.default_rng(size)
    program = one_instruction(operation, immediate, bits=12)
    inputs = {port.name: random.integers(-4095, 4096, size=(3, size)) for port in program.inputs}
    assert_equal_to_specification(program, {}, {}, inputs)


@pytest.mark.parametrize("size", LENGTHS)
def test_shift_by_a_register(size: int) -> None:
    random = np.random.default_rng(size)
    program = one_instruction("shift_right_by")
    inputs = {
        "in0": random.integers(-(2**23), 2**23, size=(2, size)),
        "in1": random.integers(0, 40, size=(2, size)),
    }
    assert_equal_to_specification(program, {}, {}, inputs)


def table_program() -> Program:
    b = ProgramBuilder()
    b.send("out", b.table("cubes", b.input("index", 8), bits=20))
    return b.build()


@pytest.mark.parametrize("size", LENGTHS)
def test_table(size: int) -> None:
    index = np.random.default_rng(size).integers(0, len(TABLE), size=(2, size))
    assert_equal_to_specification(table_program(), {}, {"cubes": TABLE}, {"index": index})


@pytest.mark.parametrize("wrong", [-1, len(TABLE)])
def test_table_read_outside_its_entries_is_a_fault(wrong: int) -> None:
    index = np.array([[0, 1, wrong, 2]])
    *_, fault = run_compiled(table_program(), {}, {"cubes": TABLE}, {"index": index}, {})
    assert fault == TABLE_FAULT


@pytest.mark.parametrize("wrong", [-1, 64])
def test_shift_by_an_impossible_distance_is_a_fault(wrong: int) -> None:
    program = one_instruction("shift_right_by")
    inputs = {"in0": np.array([[5, 5]]), "in1": np.array([[1, wrong]])}
    *_, fault = run_compiled(program, {}, {}, inputs, {})
    assert fault == SHIFT_FAULT


def test_message_of_more_than_32_bits_is_a_fault() -> None:
    program = one_instruction("shift_left", 20)
    *_, fault = run_compiled(program, {}, {}, {"in0": np.array([[1 << 12]])}, {})
    assert fault == MESSAGE_FAULT


def assert_random_program_agrees(program: Program, seed: int) -> None:
    random = np.random.default_rng(1000 + seed)
    size = int(random.choice(LENGTHS))
    constants = {"each": random.integers(-2047, 2048, size=size), "all": np.array([99])}
    inputs = {name: random.integers(-(2**15), 2**15, size=(4, size)) for name in "ab"}
    assert_equal_to_specification(program, constants, {"cubes": TABLE}, inputs)


@pytest.mark.parametrize("seed", range(40))
def test_random_programs(random_program: RandomProgram, seed: int) -> None:
    assert_random_program_agrees(random_program(seed), seed)


@pytest.mark.parametrize("seed", range(60))
def test_widths_that_are_proven_hold(random_program: RandomProgram, seed: int) -> None:
    random = np.random.default_rng(2000 + seed)
    program, constants = (
        random_program(seed),
        {"each": random.integers(-2047, 2048, size=64), "all": np.array([99])},
    )
    extremes = np.array([-(2**15) + 1, 2**15 - 1, 0, -1, 1])
    machine = Machine(constants, {"cubes": TABLE}, strict=True)
    for _ in range(20):
        states = {port.name: random.choice(extremes, size=64) for port in program.states}
        run_program(program, machine, {name: random.choice(extremes, size=(1, 64)) for name in "ab"}, states)
    if widths_hold(program, constants, {"cubes": TABLE}):
        assert machine.counters.overflows == 0


def requantizer(bits: int = 40) -> Program:
    """A program like those of a network: 24 bits times 15, rounded and saturated."""
    b = ProgramBuilder()
    product = b.mul(b.input("sum", 24), b.immediate(20000), bits=bits)
    b.send("out", b.saturate(b.shift(product, 20), 12))
    return b.build()


def test_a_program_is_proven_by_its_declared_widths() -> None:
    assert widths_hold(requantizer(), {}, {})


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(requantizer(bits=30), id="a register that can overflow"),
        pytest.param(table_program(), id="a table that can be read outside"),
        pytest.param(one_instruction("shift_left", 20, bits=60), id="a message that can be too wide"),
        pytest.param(one_instruction("mantissa", 8), id="a mantissa of what can be negative"),
        pytest.param(one_instruction("lerp", 12, bits=24), id="a weight that can be beyond one"),
    ],
)
def test_what_declared_widths_leave_open_is_not_proven(program: Program) -> None:
    assert not widths_hold(program, {}, {"cubes": TABLE})


@pytest.mark.parametrize("size", LENGTHS)
@pytest.mark.parametrize("beyond", [2**23, -(2**23), -(2**23) - 1, 2**31 - 1, -(2**31)])
def test_inputs_wider_than_declared_are_computed_and_counted(size: int, beyond: int) -> None:
    values = np.random.default_rng(size).integers(-(2**23) + 1, 2**23, size=(3, size))
    values[1, size // 2] = beyond
    assert_equal_to_specification(requantizer(), {}, {}, {"sum": values})


@pytest.mark.parametrize("size", LENGTHS)
def test_states_wider_than_declared_are_computed_and_counted(size: int) -> None:
    b = ProgramBuilder()
    b.store("s", b.shift(b.add(b.state("s", 3), b.input("a", 3)), 1, bits=3))
    b.send("out", b.input("b", 3))
    inputs = {name: np.full((2, size), 3) for name in "ab"}
    assert_equal_to_specification(b.build(), {}, {}, inputs)


def test_any_processor_gives_the_same(random_program: RandomProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    compile_structure.cache_clear()
    values = np.random.default_rng(0).integers(-(2**23) + 1, 2**23, size=(3, 129))
    assert_equal_to_specification(requantizer(), {}, {}, {"sum": values})
    test_random_programs(random_program, 3)
    compile_structure.cache_clear()


NEGATE = Operation(
    (Operand("a"),), "-a", Result(lambda _, a: -a, lambda _, a: Interval(-a.high, -a.low), width=lambda _, a: a)
)


class TestANewOperation:
    """Each part of the kernels that lacks a rule for it refuses it by name; with rules it runs."""

    @pytest.fixture(autouse=True)
    def negate(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(OPERATIONS, "negate", NEGATE)  # type: ignore[arg-type]

    @pytest.fixture
    def ranged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rule = Rule(lambda _, x: (-x[1], -x[0]), lambda _, bits: bits > NARROW_BITS)
        monkeypatch.setitem(RULES, "negate", rule)  # type: ignore[arg-type]

    def test_the_proof_by_declared_widths_refuses_it(self) -> None:
        with pytest.raises(NotImplementedError, match=r"ranges\.py\) has no rule for the operation 'negate'"):
            widths_hold(one_instruction("negate"), {}, {})

    def test_the_assembler_refuses_it(self) -> None:
        with pytest.raises(NotImplementedError, match=r"assembler of the kernels .* 'negate'"):
            assemble(one_instruction("negate"), {}, {}, strict=True, neurons=1)

    @pytest.mark.usefixtures("ranged")
    def test_the_code_generator_refuses_it(self) -> None:
        with pytest.raises(NotImplementedError, match=r"code generator of the kernels .* 'negate'"):
            run_compiled(one_instruction("negate"), {}, {}, {"in0": np.array([[1]])}, {})

    @pytest.mark.usefixtures("ranged")
    @pytest.mark.parametrize("seed", range(3))
    def test_with_rules_random_programs_draw_it_and_agree(
        self, random_program: RandomProgram, monkeypatch: pytest.MonkeyPatch, seed: int
    ) -> None:
        write = lambda lanes, _, x: lanes.builder.sub(lanes.like(0, x), x)  # noqa: E731
        monkeypatch.setitem(ARITHMETIC, "negate", write)  # type: ignore[arg-type]
        program = random_program(seed, also=("negate",))
        assert "negate" in {each.operation for each in program.instructions}
        assert_random_program_agrees(program, seed)

    def test_an_operation_on_a_constant_beside_registers_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        scale = Operation(
            (Operand("a"),),
            "a * c",
            Result(lambda _, c, a: c * a, lambda _, c, a: a, width=lambda _, a: a),
            Named.CONSTANT,
        )
        monkeypatch.setitem(OPERATIONS, "scale", scale)  # type: ignore[arg-type]
        b = ProgramBuilder()
        b.send("out", b.write("scale", "gain", b.input("a", 8)))
        with pytest.raises(NotImplementedError, match=r"assembler of the kernels .* 'scale' of a constant"):
            assemble(b.build(), {"gain": np.array([3])}, {}, strict=True, neurons=1)

"""Compiled programs give what the NumPy interpreter gives, instruction by instruction and altogether."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import pytest

from loihi_mmfree.fixedpoint.interpreter import Machine, run_program
from loihi_mmfree.fixedpoint.program import Instruction, Port, Program, ProgramBuilder

pytest.importorskip("numba")

from loihi_mmfree.sim.engine.kernels.conventions import MESSAGE_FAULT, SHIFT_FAULT, TABLE_FAULT
from loihi_mmfree.sim.engine.kernels.programs.assemble import assemble
from loihi_mmfree.sim.engine.kernels.programs.ranges import widths_hold
from loihi_mmfree.sim.engine.kernels.programs.structure import Structure
from loihi_mmfree.sim.engine.kernels.runtime.native import CompiledPrograms

Arrays = Mapping[str, np.ndarray]
LENGTHS = [1, 3, 31, 64, 65, 128]
TABLE = np.arange(-50, 47, dtype=np.int64) ** 3


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
        code=tuple(map(tuple, assembled.code[:, :5].tolist())),
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
        function(shape[1], assembled.code.ctypes.data, addresses.ctypes.data, counters.ctypes.data)
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


def one_instruction(operation: str, operands: int, immediate: int, bits: int = 24) -> Program:
    names = tuple(f"r{number}" for number in range(operands))
    loads = tuple(Instruction("input", name, (f"in{name}",), 0, 24) for name in names)
    body = Instruction(operation, "result", names, immediate, bits)
    send = Instruction("send", "", ("out", "result"))
    ports = tuple(Port(f"in{name}", 24) for name in names)
    return Program(ports, (Port("out", 24),), (), (*loads, body, send))


INSTRUCTIONS = [
    *((operation, 2, 0) for operation in ("add", "sub", "mul", "min", "max")),
    *(("shift_left", 1, distance) for distance in (0, 1, 7)),
    *(("shift_right", 1, distance) for distance in (0, 1, 5, 24)),
    *(("high_bits", 1, count) for count in (0, 3, 20)),
    *(("low_bits", 1, count) for count in (0, 3, 20)),
    ("absolute", 1, 0),
    *(("saturate", 1, bits) for bits in (2, 8, 16)),
    ("select", 3, 0),
    *(("lerp", 3, bits) for bits in (0, 1, 12)),
    *(("exponent", 1, bits) for bits in (2, 8, 16)),
    *(("mantissa", 1, bits) for bits in (2, 8, 16)),
]


@pytest.mark.parametrize("size", LENGTHS)
@pytest.mark.parametrize(("operation", "operands", "immediate"), INSTRUCTIONS)
def test_every_instruction(operation: str, operands: int, immediate: int, size: int) -> None:
    random = np.random.default_rng(size)
    limit = 4095 if operation in ("mul", "lerp") else 2**23 - 1
    program = one_instruction(operation, operands, immediate, bits=12)
    inputs = {port.name: random.integers(-limit, limit + 1, size=(3, size)) for port in program.inputs}
    for value in inputs.values():
        value[0, :1], value[1, -1:] = 0, limit
    assert_equal_to_specification(program, {}, {}, inputs)


@pytest.mark.parametrize("size", LENGTHS)
def test_shift_by_a_register(size: int) -> None:
    random = np.random.default_rng(size)
    program = one_instruction("shift_right_by", 2, 0)
    inputs = {
        "inr0": random.integers(-(2**23), 2**23, size=(2, size)),
        "inr1": random.integers(0, 40, size=(2, size)),
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
    program = one_instruction("shift_right_by", 2, 0)
    inputs = {"inr0": np.array([[5, 5]]), "inr1": np.array([[1, wrong]])}
    *_, fault = run_compiled(program, {}, {}, inputs, {})
    assert fault == SHIFT_FAULT


def test_message_of_more_than_32_bits_is_a_fault() -> None:
    program = one_instruction("shift_left", 1, 20)
    *_, fault = run_compiled(program, {}, {}, {"inr0": np.array([[1 << 12]])}, {})
    assert fault == MESSAGE_FAULT


def random_program(seed: int) -> Program:
    """A program of random instructions over inputs, states, constants, immediates and a table."""
    random = np.random.default_rng(seed)
    b = ProgramBuilder()
    pool = [b.input("a", 16), b.input("b", 16), b.constant("each", 12), b.constant("all", 12), b.immediate(37)]
    pool += [b.state("s", 16), b.state("t", 16)]

    def pick() -> str:
        return b.saturate(pool[random.integers(len(pool))], 12)

    for _ in range(25):
        match random.integers(12):
            case 0:
                pool.append(b.add(pick(), pick()))
            case 1:
                pool.append(b.sub(pick(), pick(), bits=6))
            case 2:
                pool.append(b.mul(pick(), pick()))
            case 3:
                pool.append(b.shift(pick(), int(random.integers(-5, 6))))
            case 4:
                pool += b.split(pick(), int(random.integers(1, 9)))
            case 5:
                pool.append(b.minimum(b.absolute(pick()), pick()))
            case 6:
                pool.append(b.maximum(pick(), pick()))
            case 7:
                pool.append(b.select(pick(), pick(), pick()))
            case 8:
                pool.append(b.lerp(pick(), pick(), pick(), 9))
            case 9:
                pool += [b.exponent(pick(), 8), b.mantissa(pick(), 8)]
            case 10:
                pool.append(b.shift_right_by(pick(), b.minimum(b.absolute(pick()), b.immediate(20))))
            case 11:
                pool.append(b.table("cubes", b._emit("low_bits", [pick()], 7, 6), bits=20))
    b.store("s", b.add(pick(), pool[5]))
    b.send("out", pool[-1])
    b.store("t", pool[0])
    b.send("late", pick())
    b.send("still", b.add(pool[3], pool[4]))
    return b.build()


@pytest.mark.parametrize("seed", range(40))
def test_random_programs(seed: int) -> None:
    random = np.random.default_rng(1000 + seed)
    size = int(random.choice(LENGTHS))
    constants = {"each": random.integers(-2047, 2048, size=size), "all": np.array([99])}
    inputs = {name: random.integers(-(2**15), 2**15, size=(4, size)) for name in "ab"}
    assert_equal_to_specification(random_program(seed), constants, {"cubes": TABLE}, inputs)


@pytest.mark.parametrize("seed", range(60))
def test_widths_that_are_proven_hold(seed: int) -> None:
    random = np.random.default_rng(2000 + seed)
    program, constants = (
        random_program(seed),
        {"each": random.integers(-2047, 2048, size=64), "all": np.array([99])},
    )
    extremes = np.array([-(2**15) + 1, 2**15 - 1, 0, -1, 1])
    machine = Machine(constants, {"cubes": TABLE}, strict=True)
    states = {port.name: random.choice(extremes, size=64) for port in program.states}
    run_program(program, machine, {name: random.choice(extremes, size=(50, 64)) for name in "ab"}, states)
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
        pytest.param(one_instruction("shift_left", 1, 20, bits=60), id="a message that can be too wide"),
        pytest.param(one_instruction("mantissa", 1, 8), id="a mantissa of what can be negative"),
        pytest.param(one_instruction("lerp", 3, 12, bits=24), id="a weight that can be beyond one"),
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


def test_any_processor_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    compile_structure.cache_clear()
    values = np.random.default_rng(0).integers(-(2**23) + 1, 2**23, size=(3, 129))
    assert_equal_to_specification(requantizer(), {}, {}, {"sum": values})
    test_random_programs(3)
    compile_structure.cache_clear()

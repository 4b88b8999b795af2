"""A lane computes every operation of the table as the specification does, for numbers of every magnitude."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("amaranth")

from amaranth.sim import Simulator

from loihi_mmfree.fixedpoint.operations import OPERATIONS, Named
from loihi_mmfree.rtl.hardware.lane import VectorLane, rules
from loihi_mmfree.rtl.hardware.rules import LANE_RULES
from loihi_mmfree.rtl.instructions import OPCODES, Space
from loihi_mmfree.rtl.parameters import STRIP_BEATS, CoreParameters, Depths, Size, Widths

TABLE = tuple((np.arange(-50, 47) ** 3).tolist())
WIDTHS = Widths(
    datapath=46,
    multiplicand=24,
    multiplier=20,
    message=17,
    activation=12,
    accumulator=22,
    state=16,
    constant=17,
    table=20,
)
PARAMETERS = CoreParameters(Size(32, 4), WIDTHS, Depths(16, 4, 16, 16, 16, 16, 16), TABLE)
EDGES = [0, 1, -1, 2, -2, 3, 2**15 - 1, -(2**15), 2**23 - 1, -(2**23) + 1, 2**31, -(2**31), 2**44 - 1, -(2**44)]
FROM_REGISTERS = sorted(name for name, each in OPERATIONS.items() if each.result is not None and each.registers)
MORE = (0, 1, 5, 14)
A, B, C, RESULT = range(4)


@dataclass(frozen=True)
class Vectors:
    """What one operation is to compute, and what the specification makes of it."""

    operation: str
    immediate: int
    registers: tuple[np.ndarray, ...]
    expected: np.ndarray


def numbers(limits: tuple[int, int], seed: int) -> np.ndarray:
    """Numbers of every magnitude between two limits, and these."""
    random = np.random.default_rng(seed)
    drawn = random.integers(-(2**44), 2**44, 16) >> random.integers(0, 44, 16)
    return np.clip(np.concatenate([[*limits], EDGES, drawn]), *limits)


def limits(operation: str, position: int, immediate: int) -> tuple[int, int]:
    """What a register of an operation may hold on this lane."""
    allowed = OPERATIONS[operation].registers[position].allowed
    room = 45
    if operation == "mul":
        room = (WIDTHS.multiplicand, WIDTHS.multiplier)[position]
    elif operation == "lerp":
        room = min(WIDTHS.multiplicand - 1, WIDTHS.datapath - immediate)
    elif operation == "shift_left":
        room = max(2, WIDTHS.datapath - immediate)
    least, greatest = -(2 ** (room - 1)) + 1, 2 ** (room - 1) - 1
    if allowed is None:
        return least, greatest
    low, high = allowed(immediate, len(TABLE))
    return max(low, -(2**44)), min(high, 2**44)


def vectors(operation: str, more: int) -> Vectors:
    entry = OPERATIONS[operation]
    low, high = entry.immediate or (0, 0)
    immediate = min(low + more, high)
    if operation == "lerp":
        immediate = min(immediate, 15)
    registers = tuple(
        numbers(limits(operation, position, immediate), seed=position) for position in range(len(entry.registers))
    )
    named = [np.array(TABLE)] if entry.named is Named.TABLE else []
    assert entry.result is not None
    return Vectors(operation, immediate, registers, entry.result.value(immediate, *named, *registers))


class Driver:
    """Gives a lane its signals, each in the stage in which the vector unit would."""

    def __init__(self, lane: VectorLane) -> None:
        self.lane, self.now = lane, 0
        self.signals: dict[int, list[tuple[object, int]]] = {}
        self.found: list[int] = []

    def _set(self, stage: int, signal: object, value: int) -> None:
        self.signals.setdefault(self.now + stage, []).append((signal, value))

    def issue(
        self, operation: str, beat: int, immediate: int = 0, sources: tuple[int, ...] = (), **stage_1: int
    ) -> None:
        lane, rule = self.lane, rules()[OPCODES[operation]]
        for signal, register in zip(lane.sources, sources, strict=False):
            self._set(0, signal, register * STRIP_BEATS + beat)
        for name, value in {
            "operation": OPCODES[operation],
            "immediate": immediate,
            "valid": 1,
            **stage_1,
        }.items():
            self._set(1, getattr(lane, name), value)
        self._set(3, lane.looked_up, int(rule.looks_up))
        self._set(5, lane.rounds, int(rule.rounds))
        self._set(5, lane.ceiling, int(rule.ceiling))
        self._set(5, lane.mask, (1 << min(immediate & 63, WIDTHS.datapath)) - 1)
        self._set(5, lane.write, int(not rule.effect))
        self._set(5, lane.target, stage_1.pop("target", RESULT) * STRIP_BEATS + beat)
        self.now += 1

    def load(self, register: int, values: list[int]) -> None:
        """Put a number in each beat of a register."""
        for beat, value in enumerate(values):
            self.issue("input", beat, space=Space.SCALAR, scalar=value)
            self._set(4, self.lane.target, register * STRIP_BEATS + beat)

    def wait(self) -> None:
        self.now += STRIP_BEATS


def strips(each: Vectors) -> Iterator[tuple[list[int], ...]]:
    columns = [register.tolist() for register in each.registers]
    for first in range(0, len(columns[0]), STRIP_BEATS):
        yield tuple(column[first : first + STRIP_BEATS] for column in columns)


@pytest.fixture(scope="module")
def computed() -> dict[tuple[str, int], tuple[Vectors, list[int]]]:
    """Everything that is asked, in one simulation."""
    lane = VectorLane(PARAMETERS)
    driver = Driver(lane)
    asked = {(name, more): vectors(name, more) for name in FROM_REGISTERS for more in MORE}
    read: dict[int, tuple[str, int]] = {}
    for key, each in asked.items():
        for columns in strips(each):
            for register, values in enumerate(columns):
                driver.load(register, values)
            driver.wait()
            for beat in range(len(columns[0])):
                driver.issue(each.operation, beat, each.immediate, (A, B, C))
            driver.wait()
            for beat in range(len(columns[0])):
                read[driver.now + 1] = key
                driver.issue("send", beat, sources=(RESULT,))
            driver.wait()
    found: dict[tuple[str, int], list[int]] = {key: [] for key in asked}

    async def process(context):  # type: ignore[no-untyped-def]
        for cycle in range(driver.now + STRIP_BEATS):
            context.set(lane.valid, 0)
            context.set(lane.write, 0)
            for signal, value in driver.signals.get(cycle, []):
                context.set(signal, value)
            *_, value = await context.tick().sample(lane.value)
            if cycle in read:
                found[read[cycle]].append(value)

    simulator = Simulator(lane)
    simulator.add_clock(1e-6)
    simulator.add_process(process)
    simulator.run_until(1e-6 * (driver.now + STRIP_BEATS))
    return {key: (each, found[key]) for key, each in asked.items()}


def test_every_operation_of_the_table_has_a_rule() -> None:
    assert set(LANE_RULES) == set(OPERATIONS)


def test_an_operation_without_a_rule_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATIONS, "wrap", OPERATIONS["add"])  # type: ignore[arg-type]
    monkeypatch.setitem(OPCODES, "wrap", len(OPCODES))
    with pytest.raises(NotImplementedError, match="a lane of the RTL has no rule for the operation 'wrap'"):
        rules()


@pytest.mark.parametrize("operation", FROM_REGISTERS)
@pytest.mark.parametrize("more", MORE)
def test_a_lane_computes_what_the_specification_does(
    computed: dict[tuple[str, int], tuple[Vectors, list[int]]], operation: str, more: int
) -> None:
    asked, found = computed[operation, more]
    np.testing.assert_array_equal(found, asked.expected)

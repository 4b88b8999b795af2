"""Cases of a neuron group: golden tokens, the ends of all ranges, and what its instructions turn on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loihi_mmfree.errors import MismatchError
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import OVERFLOWS, Machine, no_counts
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.listing import listing
from loihi_mmfree.fixedpoint.operations import OPERATIONS
from loihi_mmfree.ir.graph import Tensors
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.report.vectors.case import GOLDEN, VectorCase
from loihi_mmfree.report.vectors.values import Ranges, Steps, corners, joined, pool, silence

_POOL_VALUES = 2**16
_FEWEST, _MOST = 64, 2048
"""Steps of the pool that extremes are looked for in: enough for so many values, within these bounds."""
_RANDOM_VALUES = 2**11
_FEWEST_RANDOM, _MOST_RANDOM = 16, 256


class GroupVectors:
    """Makes the cases of one neuron group.

    Parameters
    ----------
    node : NeuronGroup
    tensors : mapping of str to array
    inputs : sequence of Interval
        What the proof allows each input.
    """

    def __init__(self, node: NeuronGroup, tensors: Tensors, inputs: Sequence[Interval]) -> None:
        self.node, self.program = node, node.program
        self.constants, self.tables = node.parameters(tensors)
        ports = zip(self.program.inputs, inputs, strict=True)
        self.ranges: Ranges = {
            **{f"inputs/{port.name}": found for port, found in ports},
            **{f"before/{port.name}": Interval.symmetric(port.bits) for port in self.program.states},
        }

    def cases(self, golden: Sequence[Integers], random: np.random.Generator) -> tuple[VectorCase, ...]:
        """Return all cases.

        Parameters
        ----------
        golden : sequence of int64 array [T, n]
            What arrives at each input for the golden tokens.
        random : numpy.random.Generator
            What is drawn comes from here.
        """
        arriving = {f"inputs/{port.name}": each for port, each in zip(self.program.inputs, golden, strict=True)}
        size = self.node.size
        drawn = pool(random, self.ranges, size, _clamp(_RANDOM_VALUES // size, _FEWEST_RANDOM, _MOST_RANDOM))
        searched = pool(random, self.ranges, size, _clamp(_POOL_VALUES // size, _FEWEST, _MOST))
        return (
            self._carried(GOLDEN, "the golden tokens, from empty states", arriving),
            self._apart("silence", "nothing arrives; states of 0 and at both ends", silence(self.ranges, size)),
            self._apart("ends", "inputs and states at the ends of their ranges", corners(self.ranges, size)),
            self._apart(
                "extremes",
                "neuron by neuron, what drives clamps, indices, weights and distances to their ends, and "
                "roundings to exact halves",
                self._extremes(searched),
            ),
            self._carried("random", "drawn within ranges, as a sequence from empty states", drawn),
        )

    def _apart(self, name: str, what: str, steps: Steps) -> VectorCase:
        machine, after = self._executed(steps)
        return VectorCase(name, what, False, {**steps, **self._left(machine, after, _count(steps))})

    def _carried(self, name: str, what: str, steps: Steps) -> VectorCase:
        if not self.program.states:
            return self._apart(name, what, steps)
        empty = np.zeros((1, self.node.size), dtype=np.int64)
        states = {f"before/{port.name}": empty for port in self.program.states}
        taken: list[Steps] = []
        for step in range(_count(steps)):
            now = {path: values[step : step + 1] for path, values in steps.items() if path not in states}
            machine, after = self._executed({**now, **states})
            taken.append({**now, **states, **self._left(machine, after, 1)})
            states = {f"before/{name}": value for name, value in after.items()}
        return VectorCase(name, what, True, joined(taken))

    def _executed(self, steps: Steps) -> tuple[Machine, dict[str, Integers]]:
        """Run the program on steps, each of its own; return the machine, and the states after each."""
        machine = Machine(self.constants, self.tables, strict=True, neurons=self.node.size)
        machine.counted = no_counts(_count(steps))
        inputs = {port.name: steps[f"inputs/{port.name}"] for port in self.program.inputs}
        states = {port.name: steps[f"before/{port.name}"] for port in self.program.states}
        machine.execute(self.program.instructions, inputs, states)
        if machine.counted[:, OVERFLOWS].any():
            raise MismatchError(f"{self.node.name}: a register overflows within the ranges that the proof allows")
        return machine, states

    def _left(self, machine: Machine, after: Mapping[str, Integers], steps: int) -> Steps:
        shape = (steps, self.node.size)
        outputs = {f"outputs/{port}": np.broadcast_to(value, shape) for port, value in machine.outputs.items()}
        return {**outputs, **{f"after/{name}": value for name, value in after.items()}}

    def _extremes(self, searched: Steps) -> Steps:
        """The steps that a pool's values make, neuron by neuron, where an instruction meets an end or a half."""
        machine, _ = self._executed(searched)
        picks = [pick for each in self._turning(machine, _count(searched)) for pick in each.picks()]
        rows = {
            tuple(values[pick, np.arange(self.node.size)].tobytes() for values in searched.values()): pick
            for pick in picks
        }
        # A program that turns on nothing, such as a relay's, still has one step.
        chosen = list(rows.values()) or [np.zeros(self.node.size, dtype=np.int64)]
        return {
            path: np.stack([values[pick, np.arange(self.node.size)] for pick in chosen])
            for path, values in searched.items()
        }

    def reached(self, cases: Sequence[VectorCase]) -> list[dict[str, Any]]:
        """Say what the instructions met in all cases together.

        Returns
        -------
        list of dict
            Of each instruction that clamps, rounds, or holds an operand to limits: its number and line, and the
            least and the greatest value, values clamped on either side, exact halves below and above zero.
        """
        steps = joined([{path: case.values[path] for path in self.ranges} for case in cases])
        machine, _ = self._executed(steps)
        lines = listing(self.program)
        return [
            {"instruction": each.position, "line": lines[each.position], **each.summary()}
            for each in self._turning(machine, _count(steps))
        ]

    def _turning(self, machine: Machine, steps: int) -> Iterator[_Turning]:
        """What every instruction whose behaviour turns on a value met."""
        shape = (steps, self.node.size)
        for position, each in enumerate(self.program.instructions):
            result = OPERATIONS[each.operation].result
            if result is None:
                continue
            given = [np.broadcast_to(machine.registers[name], shape) for name in each.registers]
            operands = zip(OPERATIONS[each.operation].registers, each.registers, given, strict=True)
            for operand, name, value in operands:
                if operand.allowed is not None:
                    yield _Turning(position, name, value)
            if result.clamps:
                yield _Turning(position, each.registers[0], given[0], clamped=machine.registers[each.target])
            if result.rounded is not None:
                exact, places = result.rounded(each.immediate, *given)
                yield _Turning(position, each.target, exact, halves=_halves(exact, places))


@dataclass(frozen=True)
class _Turning:
    """The values [T, n] that an instruction met: an operand with limits or of a clamp, or what it rounds."""

    position: int
    register: str
    values: Integers
    clamped: Integers | None = None
    halves: Any = None

    def picks(self) -> Iterator[Integers]:
        """Give steps, one for each neuron [n]."""
        if self.halves is None:
            yield self.values.argmin(axis=0)
            yield self.values.argmax(axis=0)
            return
        for side in (self.values < 0, self.values >= 0):
            if (self.halves & side).any():
                yield (self.halves & side).argmax(axis=0)

    def summary(self) -> dict[str, Any]:
        """Return the numbers."""
        found: dict[str, Any] = {"of": self.register}
        if self.halves is not None:
            below = self.values < 0
            return {
                **found,
                "halves_below_zero": int((self.halves & below).sum()),
                "halves_above_zero": int((self.halves & ~below).sum()),
            }
        found |= {"least": int(self.values.min()), "greatest": int(self.values.max())}
        if self.clamped is not None:
            found["clamped_from_below"] = int((self.values < self.clamped).sum())
            found["clamped_from_above"] = int((self.values > self.clamped).sum())
        return found


def _count(steps: Steps) -> int:
    return len(next(iter(steps.values())))


def _halves(exact: Integers, places: Integers | int) -> Any:
    """Where exactly half a unit is cut off."""
    one = np.int64(1) << np.asarray(places, dtype=np.int64)
    return (one > 1) & ((exact & (one - 1)) == one >> 1)


def _clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)

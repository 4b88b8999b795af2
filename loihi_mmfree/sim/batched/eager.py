"""The nodes of a network as PyTorch operations, one by one: what generated kernels are held against.

Every register and accumulator is held in int64, checked against its width and counted, as in the specification.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.fixedpoint.interpreter import OVERFLOWS, SATURATIONS, recurrence
from loihi_mmfree.fixedpoint.operations import OPERATIONS, Named, rule_for
from loihi_mmfree.fixedpoint.program import Instruction
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.synapses import SumSynapse, Synapse, TernarySynapse
from loihi_mmfree.sim.batched.pieces import TokenRows
from loihi_mmfree.sim.batched.products import code_table, digits_for, multiply, product_type, unpack
from loihi_mmfree.sim.batched.rules import RULES
from loihi_mmfree.sim.batched.tensors import DeviceTensors

States = dict[tuple[str, str], Tensor]
"""(group, state variable) -> [sequences, n]."""


class EagerNetwork:
    """Evaluates nodes of a graph in order, for all rows of a piece at once.

    Parameters
    ----------
    graph : Graph
    nodes : tuple of Node
        What to evaluate, in the graph's order; everything they read comes from them or is given.
    tensors : DeviceTensors
    """

    def __init__(self, graph: Graph, nodes: tuple[Node, ...], tensors: DeviceTensors) -> None:
        self._graph, self._nodes, self._tensors = graph, nodes, tensors
        self._device = tensors.device
        self._type = product_type(self._device)
        self._codes = code_table(self._device, self._type)
        self._last_reader = {source: node.name for node in nodes for source in node.inputs}

    def run(
        self, inputs: Mapping[Source, Tensor], piece: TokenRows, states: States, counted: Tensor
    ) -> dict[Source, Tensor]:
        """Evaluate.

        Parameters
        ----------
        inputs : mapping Source -> int64 tensor [N, n]
        piece : TokenRows
            Which sequence every row belongs to.
        states : dict (group, variable) -> int tensor [sequences, n]
            Carried on in place.
        counted : int64 tensor [2]
            Saturations and overflows are added.

        Returns
        -------
        dict Source -> int64 tensor [N, n]
            What nobody among the nodes reads.
        """
        values = dict(inputs)
        for node in self._nodes:
            arguments = [values[source] for source in node.inputs]
            for port, value in self._evaluate(node, arguments, piece, states, counted).items():
                values[node.out(port)] = value
            for source in node.inputs:
                if self._last_reader[source] == node.name:
                    values.pop(source, None)
        return values

    def _evaluate(
        self, node: Node, arguments: Sequence[Tensor], piece: TokenRows, states: States, counted: Tensor
    ) -> Mapping[str, Tensor]:
        if isinstance(node, NeuronGroup):
            return self._group(node, arguments, piece, states, counted)
        if isinstance(node, Synapse) and node.passes_on:
            return {"out": arguments[0].expand(-1, node.outputs["out"])}
        add_up = _SUMS.get(type(node))
        if add_up is None:
            raise NotImplementedError(f"{node.name}: the torch backend has no rule for {type(node).__name__}")
        sums = add_up(self, node, arguments[0])
        counted[OVERFLOWS] += _outside(sums, self._graph.chip.accumulator_bits.value).sum()
        return {"out": sums}

    def _ternary(self, node: TernarySynapse, values: Tensor) -> Tensor:
        columns = values[:, node.first_column : node.first_column + node.columns]
        weights = unpack(self._tensors[node.codes], node.columns, self._codes)
        bits = int(columns.abs().max()).bit_length() + 1
        digits = digits_for(bits, node.columns, self._type)
        sums = torch.zeros(len(values), node.rows, dtype=torch.int64, device=self._device)
        for number, digit in enumerate(digits.cut(columns, self._type)):
            sums += multiply(digit, weights).to(torch.int64) << (digits.bits * number)
        return sums

    def _sum(self, node: SumSynapse, values: Tensor) -> Tensor:
        return values.sum(dim=1, keepdim=True)

    def _group(
        self, node: NeuronGroup, arguments: Sequence[Tensor], piece: TokenRows, states: States, counted: Tensor
    ) -> Mapping[str, Tensor]:
        program = node.program
        parameters = {
            Named.CONSTANT: {name: self._tensors[key].to(torch.int64) for name, key in node.constants},
            Named.TABLE: {name: self._tensors[key].to(torch.int64) for name, key in node.tables},
            Named.INPUT: dict(zip((port.name for port in program.inputs), arguments, strict=True)),
        }
        run = _Run(node, parameters, counted)
        if program.states:
            before, core, after = recurrence(program)
            later = {name for each in (*core, *after) for name in each.registers}
            registers = run.execute(before, {}, {}, piece.rows, kept=later)
            registers |= self._walk(run, core, registers, piece, states)
            run.execute(after, registers, {}, piece.rows)
        else:
            run.execute(program.instructions, {}, {}, piece.rows)
        return {port: value.expand(piece.rows, node.size) for port, value in run.outputs.items()}

    def _walk(
        self,
        run: _Run,
        core: tuple[Instruction, ...],
        registers: Mapping[str, Tensor],
        piece: TokenRows,
        states: States,
    ) -> dict[str, Tensor]:
        """Run the recurrence token by token, all sequences that still have one together."""
        node = run.node
        own = {port.name: states[node.name, port.name].to(torch.int64) for port in node.program.states}
        written = [each.target for each in core if each.target]
        shape = piece.rows, node.size
        stacked = {name: torch.zeros(shape, dtype=torch.int64, device=self._device) for name in written}
        for sequences, rows in piece.steps():
            now = {
                name: value[rows] if value.ndim > 1 and len(value) == piece.rows else value
                for name, value in registers.items()
            }
            old = {name: value[sequences] for name, value in own.items()}
            found = run.execute(core, now, old, len(rows), which=rows, kept=set(written))
            for name, value in run.stored.items():
                own[name][sequences] = value.expand(len(rows), node.size)
            for name in written:
                stacked[name][rows] = found[name].expand(len(rows), node.size)
        for name, value in own.items():
            states[node.name, name].copy_(value)
        return stacked


_SUMS: Mapping[type, Callable[..., Tensor]] = {
    TernarySynapse: EagerNetwork._ternary,
    SumSynapse: EagerNetwork._sum,
}
"""Kind of a node that adds up -> how."""


@dataclass
class _Run:
    """A neuron program on some rows. `execute` leaves what was sent and stored behind."""

    node: NeuronGroup
    parameters: Mapping[Named, Mapping[str, Tensor]]
    counted: Tensor

    def __post_init__(self) -> None:
        self.outputs: dict[str, Tensor] = {}
        self.stored: dict[str, Tensor] = {}

    def execute(
        self,
        instructions: tuple[Instruction, ...],
        registers: Mapping[str, Tensor],
        states: Mapping[str, Tensor],
        rows: int,
        which: Tensor | None = None,
        kept: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """Run instructions for `rows` rows, those of numbers `which` if not all.

        Returns the registers that were given, and of those written what is in `kept`.
        """
        found = dict(registers)
        last = _last_readers(instructions)
        for number, each in enumerate(instructions):
            operation = OPERATIONS[each.operation]
            operands = [found[name] for name in each.registers]
            if operation.result is None:
                effects = self.stored if operation.named is Named.STATE else self.outputs
                effects[each.operands[0]] = operands[0]
                continue
            value = self._value(each, operands, states, which)
            found[each.target] = value
            if operation.result.clamps:
                self._count(SATURATIONS, value != operands[0], rows)
            self._count(OVERFLOWS, _outside(value, each.bits), rows)
            for name in last.get(number, ()):
                if name not in kept:
                    del found[name]
        return found

    def _value(
        self, each: Instruction, operands: list[Tensor], states: Mapping[str, Tensor], which: Tensor | None
    ) -> Tensor:
        named = OPERATIONS[each.operation].named
        if each.operation == "immediate":
            return torch.full((1, 1), each.immediate, dtype=torch.int64, device=self.counted.device)
        if named is Named.STATE:
            operands = [states[each.operands[0]], *operands]
        elif named is not None:
            value = self.parameters[named][each.operands[0]]
            operands = [value if named is not Named.INPUT or which is None else value[which], *operands]
        self._check(each, operands)
        return rule_for(RULES, each.operation, "the torch backend (sim/batched/rules.py)")(
            each.immediate, *operands
        )

    def _check(self, each: Instruction, operands: list[Tensor]) -> None:
        """Refuse what would read outside of a table, or shift by what is no distance."""
        entries = len(operands[0]) if OPERATIONS[each.operation].named is Named.TABLE else 0
        registers = operands[-len(each.registers) :] if each.registers else []
        for operand, value in zip(OPERATIONS[each.operation].registers, registers, strict=True):
            if operand.allowed is None:
                continue
            low, high = operand.allowed(each.immediate, entries)
            if bool(((value < low) | (value > high)).any()):
                raise SimulationError(
                    f"{self.node.name}: a {operand.demand} is outside of {low} to {high}, which the proof of "
                    "bounds excludes; the network was not made by this compiler, or damaged: compile again"
                )

    def _count(self, what: int, flags: Tensor, rows: int) -> None:
        """Add the neurons that are flagged; what is the same for all of them, or for all rows, counts for each."""
        alike = rows * self.node.size // flags.numel() if flags.numel() else 0
        self.counted[what] += flags.sum() * alike


@lru_cache(maxsize=4096)
def _last_readers(instructions: tuple[Instruction, ...]) -> Mapping[int, tuple[str, ...]]:
    """Instruction -> the registers that none after it reads, of those that were written here."""
    written = {each.target for each in instructions if each.target}
    last = {name: number for number, each in enumerate(instructions) for name in each.registers if name in written}
    found: dict[int, tuple[str, ...]] = {}
    for name, number in last.items():
        found[number] = (*found.get(number, ()), name)
    return found


def _outside(value: Tensor, bits: int) -> Tensor:
    """Return which values do not fit a signed integer of `bits` bits."""
    limit = 1 << (bits - 1)
    return (value < -limit) | (value >= limit)

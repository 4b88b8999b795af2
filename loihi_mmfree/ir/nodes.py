"""Neuron groups, and the host at both ends of the lowered graph; :mod:`.synapses` has what is between them.

Time: an edge into a neuron group or a host node costs nothing, a synapse costs the time steps it declares.
So what a group sends in step t reaches the next group in step t + latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.intervals import Interval
from loihi_mmfree.fixedpoint.operations import Named
from loihi_mmfree.fixedpoint.program import Program
from loihi_mmfree.fixedpoint.proof import Violation, analyse
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.ir.contract import Bounds, Evaluator, NeuronMemory
from loihi_mmfree.ir.evaluators import GroupEvaluator, PassingEvaluator
from loihi_mmfree.ir.graph import Graph, Node, Tensors, required_tensor
from loihi_mmfree.loihi2.hardware import ChipSpec

HOST_BLOCK = "host"
_LOGIT_INSTRUCTIONS = 2
"""A logit on chip loads its accumulator and sends it."""


class Role(Enum):
    """What a neuron group is for."""

    EMBEDDING = "Embedding"
    RMS_NORM = "RmsNorm"
    SCALE = "Scale"
    ML_GRU = "MlGru"
    GLU = "Glu"
    RESIDUAL = "Residual"
    RELAY = "Relay"


@dataclass(frozen=True)
class TokenIn(Node):
    """The host writes a row of the embedding table (tensor `table`) into the first neuron group."""

    size: int
    table: str

    @property
    def outputs(self) -> Mapping[str, int]:
        """The row."""
        return {"out": self.size}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """None: it is fed by the host."""
        return ()

    @property
    def host_end(self) -> bool:
        """It is the host's."""
        return True

    def bounds(self, tensors: Tensors, inputs: Sequence[Interval], chip: ChipSpec) -> Bounds:
        """The least and the greatest entry of the table."""
        table = tensors[self.table]
        return {"out": Interval(np.array([int(table.min())]), np.array([int(table.max())]))}, []

    def evaluator(self, tensors: Tensors, chip: ChipSpec, strict: bool) -> Evaluator:
        """None: tokens come from outside."""
        raise TypeError(f"{self.name}: the host provides its value")

    def check_tensors(self, tensors: Tensors) -> None:
        """The table has a column for each neuron."""
        table = required_tensor(tensors, self, self.table, "int16", "int32")
        if table.ndim != 2 or table.shape[1] != self.size:
            raise ValueError(f"{self.table}: shape {table.shape}, expected {self.size} columns")


@dataclass(frozen=True)
class LogitsOut(Node):
    """The host reads the accumulators of the head; the real logit is integer * scale."""

    size: int
    scale: float

    @property
    def outputs(self) -> Mapping[str, int]:
        """Nothing goes on from here."""
        return {}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """One accumulator for each token of the vocabulary."""
        return (self.size,)

    @property
    def host_end(self) -> bool:
        """It is the host's, wherever its neurons are."""
        return True

    @property
    def neurons(self) -> int:
        """One for each logit."""
        return self.size

    def bounds(self, tensors: Tensors, inputs: Sequence[Interval], chip: ChipSpec) -> Bounds:
        """It computes nothing."""
        return {}, []

    def evaluator(self, tensors: Tensors, chip: ChipSpec, strict: bool) -> Evaluator:
        """It computes nothing."""
        return PassingEvaluator({})

    def neuron_memory(self, tensors: Tensors, chip: ChipSpec) -> NeuronMemory:
        """A neuron that sends its accumulator."""
        return NeuronMemory(1, 0, _LOGIT_INSTRUCTIONS * chip.instruction_bytes.value, 0)


@dataclass(frozen=True)
class NeuronGroup(Node):
    """Neurons that run one program.

    Parameters
    ----------
    role : Role
        What it is for.
    size : int
        Number of neurons, and of elements of every output.
    program : Program
        `inputs` of the node are the program's inputs, in order.
    constants : tuple of (name in the program, tensor)
        Tensors are [size] or [1].
    tables : tuple of (name in the program, tensor)
    formats : tuple of (port or state, QFormat)
        What the integers of a port mean; a state's format is listed under its name.
    """

    role: Role
    size: int
    program: Program
    constants: tuple[tuple[str, str], ...]
    tables: tuple[tuple[str, str], ...]
    formats: tuple[tuple[str, QFormat], ...]

    def __post_init__(self) -> None:
        for what, given, loaded in (
            ("constants", self.constants, self.program.constants),
            ("tables", self.tables, self.program.tables),
        ):
            names = {name for name, _ in given}
            if names != set(loaded):
                raise ValueError(
                    f"{self.name}: its program loads the {what} {list(loaded)}, given are {sorted(names)}"
                )

    @property
    def outputs(self) -> Mapping[str, int]:
        """Every port of the program, each of the group's size."""
        return {port.name: self.size for port in self.program.outputs}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """Every input of the program, each of the group's size."""
        return (self.size,) * len(self.program.inputs)

    @property
    def kind(self) -> str:
        """Its role."""
        return self.role.value

    @property
    def shape(self) -> str:
        """The number of neurons."""
        return str(self.size)

    @property
    def neurons(self) -> int:
        """As declared."""
        return self.size

    @property
    def instructions(self) -> int:
        """Those of the program."""
        return len(self.program.instructions)

    @property
    def sends(self) -> Mapping[str, int]:
        """Every output."""
        return self.outputs

    @property
    def states(self) -> Mapping[str, int]:
        """Those of the program, each of the group's size."""
        return {state.name: self.size for state in self.program.states}

    @property
    def counts(self) -> bool:
        """Registers may overflow, and values are clamped."""
        return True

    def parameters(self, tensors: Tensors) -> tuple[dict[str, Integers], dict[str, Integers]]:
        """Return constants and tables as int64 arrays by their names in the program."""
        constants = {name: tensors[key].astype(np.int64) for name, key in self.constants}
        tables = {name: tensors[key].astype(np.int64) for name, key in self.tables}
        return constants, tables

    def bounds(self, tensors: Tensors, inputs: Sequence[Interval], chip: ChipSpec) -> Bounds:
        """Those of the program; every declared width is held against the chip's."""
        named = dict(zip((port.name for port in self.program.inputs), inputs, strict=True))
        violations = [
            Violation(
                self.name,
                f"input {port.name} of {port.bits} bits",
                named[port.name].magnitude,
                (1 << (port.bits - 1)) - 1,
            )
            for port in self.program.inputs
            if not named[port.name].fits(port.bits)
        ]
        outputs, found = analyse(self.program, self.name, named, *self.parameters(tensors))
        return outputs, [*violations, *found, *self._too_wide(chip)]

    def _too_wide(self, chip: ChipSpec) -> list[Violation]:
        """The declared widths that the chip does not have; that values keep them, the program proves."""
        widest = max((each.bits for each in self.program.instructions), default=0)
        declared = [
            *((f"message {each.name} (rule R1)", "message_bits", each.bits) for each in self.program.outputs),
            *((f"state {each.name} (rule R3)", "state_bits", each.bits) for each in self.program.states),
            ("widest register", "register_bits", widest),
        ]
        limits = chip.figures()
        return [
            Violation(self.name, f"{what}, bits", bits, limits[limit].value, (limit, bits))
            for what, limit, bits in declared
            if bits > limits[limit].value
        ]

    def evaluator(self, tensors: Tensors, chip: ChipSpec, strict: bool) -> Evaluator:
        """The program, interpreted."""
        return GroupEvaluator(self.program, self.size, *self.parameters(tensors), strict)

    def neuron_memory(self, tensors: Tensors, chip: ChipSpec) -> NeuronMemory:
        """States, constants, program and tables."""
        widths = self.program.loaded(Named.CONSTANT)
        own = sum(_bytes(widths[name]) for name, key in self.constants if tensors[key].size > 1)
        shared = sum(_bytes(widths[name]) for name, key in self.constants if tensors[key].size == 1)
        states = sum(_bytes(state.bits) for state in self.program.states)
        entries = self.program.loaded(Named.TABLE)
        tables = sum(tensors[key].size * _bytes(entries[name]) for name, key in self.tables)
        return NeuronMemory(
            messages=len(self.program.outputs),
            state_bytes=states + own,
            program_bytes=self.instructions * chip.instruction_bytes.value,
            table_bytes=tables + shared,
        )

    def check_tensors(self, tensors: Tensors) -> None:
        """Constants are one for each neuron or one for all, tables have one dimension."""
        for _, key in self.constants:
            shape = required_tensor(tensors, self, key, "int32").shape
            if shape not in ((self.size,), (1,)):
                raise ValueError(f"{key}: shape {shape}, expected {self.size} neurons")
        for _, key in self.tables:
            if required_tensor(tensors, self, key, "int32").ndim != 1:
                raise ValueError(f"{key}: a table has one dimension")


def token_input(graph: Graph) -> TokenIn:
    """Return where the host writes tokens in."""
    return next(node for node in graph if isinstance(node, TokenIn))


def logits_output(graph: Graph) -> LogitsOut:
    """Return where the host reads logits."""
    return next(node for node in graph if isinstance(node, LogitsOut))


def block_of(name: str) -> str:
    """Return the block a node belongs to: `embeddings`, `layers.N`, `lm_head` or `host`.

    The one place that takes a node's name apart: graph.json has no field for it.
    """
    parts = name.split(".")
    if parts[0] == "layers":
        return ".".join(parts[:2])
    if parts[0] in ("tokens", "logits"):
        return HOST_BLOCK
    return "embeddings" if parts[0] == "embeddings" and len(parts) == 1 else "lm_head"


def _bytes(bits: int) -> int:
    return -(-bits // 8)

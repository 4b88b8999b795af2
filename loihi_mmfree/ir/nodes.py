"""The nodes of the lowered graph: synapses, neuron groups, and the host at both ends.

Time: an edge into a neuron group or a host node costs nothing, a synapse costs the time steps it declares.
So what a group sends in step t reaches the next group in step t + latency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.program import Program
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.fixedpoint.ternary import CODES_PER_BYTE, unpack_ternary
from loihi_mmfree.ir.graph import Graph, Node

HOST_BLOCK = "host"


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


@dataclass(frozen=True)
class Synapse(Node):
    """A connection; what enters in step t leaves in step t + latency."""

    @property
    def latency(self) -> int:
        """Time steps from source to target."""
        return 1


@dataclass(frozen=True)
class TernarySynapse(Synapse):
    """Ternary weights, from all of a source or from a slice of it.

    Parameters
    ----------
    rows, columns : int
        Of the weights that are stored.
    codes : str
        The tensor that holds them packed, four to a byte.
    first_column : int
        The element of the source that the first column reads; a multiple of four, as bytes hold four.
    source_size : int
        Number of elements of the source; those outside the slice have weight zero.
    """

    rows: int
    columns: int
    codes: str
    first_column: int
    source_size: int

    def __post_init__(self) -> None:
        if self.first_column % CODES_PER_BYTE or self.first_column + self.columns > self.source_size:
            raise ValueError(
                f"{self.name}: columns {self.first_column} to {self.first_column + self.columns} are no slice of "
                f"{self.source_size} that begins at a multiple of four"
            )

    @property
    def outputs(self) -> Mapping[str, int]:
        """The accumulators."""
        return {"out": self.rows}

    def weights(self, tensors: Mapping[str, np.ndarray]) -> NDArray[np.int8]:
        """Return the weights -1, 0 and 1 as int8 [rows, source_size]."""
        stored = unpack_ternary(tensors[self.codes], self.columns)
        if self.columns == self.source_size:
            return stored
        behind = self.source_size - self.first_column - self.columns
        return np.pad(stored, ((0, 0), (self.first_column, behind)))

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The activations."""
        return (self.source_size,)


@dataclass(frozen=True)
class SumSynapse(Synapse):
    """All-ones weights [1, columns]: the sum over a group."""

    columns: int

    @property
    def outputs(self) -> Mapping[str, int]:
        """The sum."""
        return {"out": 1}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The summands."""
        return (self.columns,)


@dataclass(frozen=True)
class Broadcast(Synapse):
    """All-ones weights [rows, 1]: one number to every neuron of a group."""

    rows: int

    @property
    def outputs(self) -> Mapping[str, int]:
        """The copies."""
        return {"out": self.rows}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The number."""
        return (1,)


@dataclass(frozen=True)
class Delay(Synapse):
    """One-to-one connection that takes `steps` time steps, so that branches meet."""

    size: int
    steps: int

    @property
    def latency(self) -> int:
        """As declared."""
        return self.steps

    @property
    def outputs(self) -> Mapping[str, int]:
        """The delayed vector."""
        return {"out": self.size}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The vector."""
        return (self.size,)


@dataclass(frozen=True)
class NeuronGroup(Node):
    """Neurons that run one program.

    Parameters
    ----------
    role : str
        What it is for: Embedding, RmsNorm, Scale, MlGru, Glu, Residual or Relay.
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

    role: str
    size: int
    program: Program
    constants: tuple[tuple[str, str], ...]
    tables: tuple[tuple[str, str], ...]
    formats: tuple[tuple[str, QFormat], ...]

    @property
    def outputs(self) -> Mapping[str, int]:
        """Every port of the program, each of the group's size."""
        return {port.name: self.size for port in self.program.outputs}

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """Every input of the program, each of the group's size."""
        return (self.size,) * len(self.program.inputs)


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


def node_parameters(graph: Graph, node: NeuronGroup) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Return a group's constants and tables as int64 arrays by their names in the program."""
    constants = {name: graph.tensors[key].astype(np.int64) for name, key in node.constants}
    tables = {name: graph.tensors[key].astype(np.int64) for name, key in node.tables}
    return constants, tables


def token_input(graph: Graph) -> TokenIn:
    """Return where the host writes tokens in."""
    return next(node for node in graph if isinstance(node, TokenIn))


def logits_output(graph: Graph) -> LogitsOut:
    """Return where the host reads logits."""
    return next(node for node in graph if isinstance(node, LogitsOut))


def block_of(name: str) -> str:
    """Return the block a node belongs to: `embeddings`, `layers.N`, `lm_head` or `host`."""
    parts = name.split(".")
    if parts[0] == "layers":
        return ".".join(parts[:2])
    if parts[0] in ("tokens", "logits"):
        return HOST_BLOCK
    return "embeddings" if parts[0] == "embeddings" and len(parts) == 1 else "lm_head"

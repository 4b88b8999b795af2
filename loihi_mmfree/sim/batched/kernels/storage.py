"""What a network has on a device, and how its messages lie there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import NeuronGroup, logits_output
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.sim.batched.kernels.text import Wanted
from loihi_mmfree.sim.batched.paths import Progress
from loihi_mmfree.sim.batched.products import digits_for, planes_of, product_type
from loihi_mmfree.sim.batched.regions import NotPlannedError, Schedule


class Weights:
    """What a network has on a device, shared by its kernels for prompts and for single tokens."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self._graph, self.device = graph, device
        self.dtype = product_type(device)
        self._tensors: dict[str, Tensor] = {}
        self._planes: dict[str, Tensor] = {}

    def tensor(self, key: str) -> Tensor:
        """Return a tensor of the graph as it is."""
        if key not in self._tensors:
            self._tensors[key] = torch.tensor(self._graph.tensors[key][:], device=self.device)
        return self._tensors[key]

    def planes(self, key: str) -> Tensor:
        """Return ternary weights as kernels read them, packed."""
        if key not in self._planes:
            packed = torch.tensor(self._graph.tensors[key], device=self.device)
            self._planes[key] = planes_of(packed)
        return self._planes[key]


@dataclass
class Run:
    """What the kernels of one piece share.

    Parameters
    ----------
    ids : int32 tensor [N]
    sequences : int32 tensor [N]
        Of each row.
    starts : int32 tensor [sequences + 1]
        The first row of each, and behind them the number of rows.
    progress : Progress
    values : dict
        What somebody still reads: [N, n] by (source, "plain"), [digits, N, n] by (source, "digits").
    """

    ids: Tensor
    sequences: Tensor
    starts: Tensor
    progress: Progress
    values: dict[tuple[Source, str], Tensor] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Tokens of all sequences."""
        return len(self.ids)


class Storage:
    """How the messages between the kernels of a schedule are written.

    Parameters
    ----------
    graph : Graph
    schedule : Schedule
    weights : Weights
    """

    def __init__(self, graph: Graph, schedule: Schedule, weights: Weights) -> None:
        self.graph, self.schedule, self.weights = graph, schedule, weights
        self.root = schedule.root
        self._bits = {
            node.out(port.name): port.bits
            for node in graph
            if isinstance(node, NeuronGroup)
            for port in node.program.outputs
        }

    def bits(self, source: Source) -> int:
        """Return the declared width of a message."""
        if source not in self._bits:
            raise NotPlannedError(f"a product reads {source}, which no neuron sends")
        return self._bits[source]

    def integer_type(self, source: Source) -> torch.dtype:
        """Return the type in which a message is written for neurons."""
        bits = self.bits(source)
        return torch.int16 if bits <= 16 else torch.int32 if bits <= 32 else torch.int64

    @cached_property
    def wanted(self) -> dict[Source, Wanted]:
        """What one kernel writes and another one reads."""
        plain, columns = {self.root(logits_output(self.graph).inputs[0])}, dict[Source, int]()
        for step in self.schedule.steps:
            if isinstance(step, TernarySynapse):
                read = self.root(step.inputs[0])
                columns[read] = max(step.columns, columns.get(read, 0))
                continue
            own = {node.name for node in step.nodes}
            plain |= {
                self.root(each) for node in step.nodes for each in node.inputs if self.root(each).node not in own
            }
        cut = {source: digits_for(self.bits(source), most, self.weights.dtype) for source, most in columns.items()}
        return {source: Wanted(source in plain, cut.get(source)) for source in plain | set(cut)}

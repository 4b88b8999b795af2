"""What a network has on a device, and how its messages lie there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import NeuronGroup, logits_output
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.sim.batched.kernels.text import Wanted
from loihi_mmfree.sim.batched.paths import Progress, head_of
from loihi_mmfree.sim.batched.products import digits_for, planes_of, product_type
from loihi_mmfree.sim.batched.regions import NoKernelError, Schedule
from loihi_mmfree.sim.batched.tensors import DeviceTensors


class Weights(DeviceTensors):
    """What a network has on a device, shared by its kernels for prompts and for single tokens."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        super().__init__(graph, device)
        self.dtype = product_type(device)
        self._planes: dict[tuple[str, ...], Tensor] = {}

    def planes(self, *keys: str) -> Tensor:
        """Return ternary weights of one shape as kernels read them, packed: uint8 [matrices, rows, bytes]."""
        if keys not in self._planes:
            packed = (torch.tensor(self._graph.tensors[key], device=self.device) for key in keys)
            self._planes[keys] = torch.stack([planes_of(each) for each in packed])
        return self._planes[keys]


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
        What somebody still reads: [N, n] by (source, "plain"), and by (source, "digits") those of all that lie
        `together` with it, [sources, digits, N, n].
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
            raise NoKernelError(f"a product reads {source}, which no neuron sends")
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

    @cached_property
    def products(self) -> list[tuple[TernarySynapse, ...]]:
        """The products, in order; those of one shape that can be computed at once are together."""
        found: list[list[TernarySynapse]] = []
        follows, head = False, head_of(self.graph)
        for step in self.schedule.steps:
            if not isinstance(step, TernarySynapse):
                follows = False
            elif follows and step is not head and self._alike(found[-1], step):
                found[-1].append(step)
            else:
                found.append([step])
                follows = True
        return [tuple(each) for each in found]

    def _alike(self, others: list[TernarySynapse], node: TernarySynapse) -> bool:
        """Whether a product has the shape of others, and reads what they read, or none of it."""
        first = others[0]
        shapes = {(each.rows, each.columns, each.first_column, each.source_size) for each in (first, node)}
        read = [self.root(each.inputs[0]) for each in (*others, node)]
        if len(shapes) > 1 or len(set(read)) not in (1, len(read)):
            return False
        cut = {self.wanted[each].digits for each in read}
        # Messages that lie together are read together only.
        return len(cut) == 1 and (len(set(read)) == 1 or all(self._readers[each] == 1 for each in read))

    @cached_property
    def _readers(self) -> Counter[Source]:
        return Counter(
            self.root(step.inputs[0]) for step in self.schedule.steps if isinstance(step, TernarySynapse)
        )

    @cached_property
    def together(self) -> dict[Source, tuple[Source, ...]]:
        """Message that products read -> those whose digits lie in one tensor, itself among them."""
        found: dict[Source, tuple[Source, ...]] = {}
        for nodes in self.products:
            read = tuple(dict.fromkeys(self.root(node.inputs[0]) for node in nodes))
            found.update({source: read for source in read if source not in found})
        return found

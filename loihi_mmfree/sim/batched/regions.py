"""What goes into one kernel: everything between two products, as far as it has one width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loihi_mmfree.errors import UsageError
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.synapses import SumSynapse, Synapse, TernarySynapse

LARGEST_REGION = 1 << 14
"""Elements of a row that one program of a GPU holds in its registers."""


class NoKernelError(UsageError):
    """The graph is of a kind that the generated kernels do not know."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no GPU kernels can be made for this network: {reason}; use `backend='engine'`")


@dataclass(frozen=True)
class Region:
    """Neuron groups and sums that one kernel computes, for one token at a time.

    Parameters
    ----------
    nodes : tuple of NeuronGroup and SumSynapse
        In the graph's order; each has `size` elements or one.
    size : int
    walks : bool
        It is one group with state, and its kernel walks through all tokens of a sequence.
    """

    nodes: tuple[Node, ...]
    size: int
    walks: bool = False


@dataclass(frozen=True)
class Schedule:
    """Kernels in order.

    Parameters
    ----------
    steps : tuple of Region and TernarySynapse
    roots : mapping Source -> Source
        What is passed on -> what it is.
    """

    steps: tuple[Region | TernarySynapse, ...]
    roots: Mapping[Source, Source]

    def root(self, source: Source) -> Source:
        """Return where a value was computed."""
        return self.roots.get(source, source)


def schedule(graph: Graph, walks: bool) -> Schedule:
    """Cut a graph into kernels.

    Parameters
    ----------
    graph : Graph
    walks : bool
        Whether a sequence can have more than one token: then a group with state is a kernel of its own.

    Raises
    ------
    NoKernelError
        A node has no kernel.
    """
    scheduler = _Scheduler(walks)
    for node in graph:
        if not node.host_end:
            scheduler.add(node)
    scheduler.close()
    return Schedule(tuple(scheduler.steps), scheduler.roots)


class _Scheduler:
    """The steps so far, and the region that still grows."""

    def __init__(self, walks: bool) -> None:
        self._walks = walks
        self.steps: list[Region | TernarySynapse] = []
        self.roots: dict[Source, Source] = {}
        self._open: list[Node] = []
        self._size = 1

    def add(self, node: Node) -> None:
        """Take in the next node."""
        reads = {self.roots.get(source, source) for source in node.inputs}
        if isinstance(node, Synapse) and node.passes_on:
            (self.roots[node.out()],) = reads
        elif isinstance(node, TernarySynapse):
            if any(source.node == each.name for source in reads for each in self._open):
                self.close()
            self.steps.append(node)
        elif isinstance(node, NeuronGroup | SumSynapse):
            self._compute(node)
        else:
            raise NoKernelError(f"{node.name}: {type(node).__name__} has no kernel")

    def _compute(self, node: NeuronGroup | SumSynapse) -> None:
        size = node.columns if isinstance(node, SumSynapse) else node.size
        if size > LARGEST_REGION:
            raise NoKernelError(f"{node.name} has {size} elements, more than {LARGEST_REGION}")
        if self._walks and node.states:
            self.close()
            self.steps.append(Region((node,), size, walks=True))
            return
        if size not in (1, self._size) and self._size > 1:
            self.close()
        self._open.append(node)
        self._size = max(self._size, size)

    def close(self) -> None:
        """End the region that grows."""
        if self._open:
            self.steps.append(Region(tuple(self._open), self._size))
        self._open, self._size = [], 1

"""Runs the nodes of a lowered graph, or of a part of it, token by token exactly.

Time steps are left out: a delay passes its input on. What a token's values are does not depend on when its
messages travel, because a group acts on a token when all its inputs have arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import (
    OVERFLOWS,
    Counters,
    Machine,
    no_counts,
    overflowing,
    run_program,
)
from loihi_mmfree.fixedpoint.ternary import ternary_dot
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import (
    Broadcast,
    Delay,
    LogitsOut,
    NeuronGroup,
    SumSynapse,
    TernarySynapse,
    TokenIn,
    node_parameters,
)
from loihi_mmfree.loihi2.hardware import LOIHI2

Tap = Callable[[Source, Integers], None]
"""Called with a message and its values [T, n]."""
Tally = Callable[[str, Integers], None]
"""Called with a node and what it counted, int64 [T, 2]: saturations and overflows of each token."""


@dataclass
class NodeState:
    """What a neuron group keeps between tokens, and what it has counted."""

    machine: Machine
    variables: dict[str, Integers]


@dataclass
class Executor:
    """Evaluates nodes in order over NumPy int64.

    Parameters
    ----------
    graph : Graph
        Lowered.
    nodes : tuple of Node
        The part of the graph to run, in the graph's order.
    strict : bool
        Check every register and accumulator against its declared width and count overflows.
    """

    graph: Graph
    nodes: tuple[Node, ...]
    strict: bool = False
    groups: dict[str, NodeState] = field(default_factory=dict)
    _wide_sums: Counters = field(default_factory=Counters)
    _weights: dict[str, NDArray[np.int8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.nodes:
            if isinstance(node, NeuronGroup):
                constants, tables = node_parameters(self.graph, node)
                self.groups[node.name] = NodeState(Machine(constants, tables, self.strict, node.size), {})
        self.reset()
        self._last_reader = {source: node.name for node in self.nodes for source in node.inputs}

    def reset(self) -> None:
        """Set all states to zero: the beginning of a sequence."""
        for node in self.nodes:
            if isinstance(node, NeuronGroup):
                zero = np.zeros(node.size, dtype=np.int64)
                self.groups[node.name].variables.update({state.name: zero.copy() for state in node.program.states})

    @property
    def variables(self) -> dict[str, dict[str, Integers]]:
        """State variables of every group that has any, int64 [n] by group and name."""
        return {name: state.variables for name, state in self.groups.items() if state.variables}

    @property
    def counters(self) -> Counters:
        """Saturations and overflows of all nodes since the beginning."""
        return Counters.total([self._wide_sums, *(state.machine.counters for state in self.groups.values())])

    def run(
        self,
        inputs: Mapping[Source, Integers],
        wanted: Iterable[Source] = (),
        tap: Tap | None = None,
        tally: Tally | None = None,
    ) -> dict[Source, Integers]:
        """Run a sequence of T tokens through the nodes.

        Parameters
        ----------
        inputs : mapping Source -> integer array [T, n]
            Values that come from outside the nodes.
        wanted : iterable of Source
            What to return; everything else is freed after its last reader.
        tap : callable, optional
            Called with every value as it is computed.
        tally : callable, optional
            Called with what every neuron group and, if strict, every accumulating synapse counted.

        Returns
        -------
        dict Source -> int64 array [T, n]
        """
        values = {source: value.astype(np.int64, copy=False) for source, value in inputs.items()}
        kept = set(wanted)
        for node in self.nodes:
            arguments = [values[source] for source in node.inputs]
            for port, value in self._evaluate(node, arguments, tally or _ignore).items():
                values[node.out(port)] = value
                if tap is not None:
                    tap(node.out(port), value)
            for source in node.inputs:
                if self._last_reader[source] == node.name and source not in kept:
                    values.pop(source, None)
        return {source: values[source] for source in kept}

    def _evaluate(self, node: Node, arguments: list[Integers], tally: Tally) -> dict[str, Integers]:
        match node:
            case NeuronGroup():
                state = self.groups[node.name]
                names = (port.name for port in node.program.inputs)
                inputs = dict(zip(names, arguments, strict=True))
                outputs = run_program(node.program, state.machine, inputs, state.variables)
                tally(node.name, state.machine.counted)
                tokens = len(arguments[0])
                return {port: np.broadcast_to(value, (tokens, node.size)) for port, value in outputs.items()}
            case TernarySynapse():
                return self._accumulated(node, ternary_dot(arguments[0], self._weights_of(node)), tally)
            case SumSynapse():
                return self._accumulated(node, arguments[0].sum(axis=1, keepdims=True), tally)
            case Broadcast():
                return {"out": np.broadcast_to(arguments[0], (len(arguments[0]), node.rows))}
            case Delay():
                return {"out": arguments[0]}
            case LogitsOut():
                return {}
            case TokenIn():
                raise TypeError(f"{node.name}: the host provides its value")
            case _:
                raise TypeError(f"{node.name}: {type(node).__name__} is not a lowered node")

    def _weights_of(self, node: TernarySynapse) -> NDArray[np.int8]:
        if node.name not in self._weights:
            self._weights[node.name] = node.weights(self.graph.tensors)
        return self._weights[node.name]

    def _accumulated(self, node: Node, sums: Integers, tally: Tally) -> dict[str, Integers]:
        if self.strict:
            counted = count_wide_sums(sums)
            self._wide_sums.overflows += int(counted[:, OVERFLOWS].sum())
            tally(node.name, counted)
        return {"out": sums}


def _ignore(_: str, __: Integers) -> None:
    """The tally of whoever does not ask."""


def counting_nodes(graph: Graph) -> tuple[str, ...]:
    """Return the nodes that can count a saturation or an overflow: neuron groups and accumulating synapses."""
    counting = NeuronGroup, TernarySynapse, SumSynapse
    return tuple(node.name for node in graph if isinstance(node, counting))


def count_wide_sums(sums: Integers) -> Integers:
    """Return the counts [T, 2] of an accumulating synapse: its sums [T, n] wider than an accumulator."""
    counted = no_counts(len(sums))
    counted[:, OVERFLOWS] = np.count_nonzero(overflowing(sums, LOIHI2.accumulator_bits.value), axis=1)
    return counted

"""What a run sent: messages that were not zero, of every token at every output of every neuron group.

On Loihi 2 a zero sends nothing, so these counts are what time and energy depend on. A token acts on a node in one
time step, so what is counted by token and node is counted by step and node. `activity.recorder` collects them from
whatever runs the network, and every backend counts the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.incidents import OVERFLOWS, SATURATIONS, Incidents
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import NeuronGroup, Role
from loihi_mmfree.ir.synapses import Synapse

HISTOGRAM_BINS = 25
Amount = TypeVar("Amount", float, NDArray[Any])
"""Of a token: a mean, or an array [T] for every one of them."""


@dataclass(frozen=True)
class Activity:
    """Messages, saturations and overflows over a number of tokens.

    Parameters
    ----------
    tokens : int
        Tokens that passed through the network.
    messages : mapping "node:port" -> int
        Messages other than zero, over all neurons and tokens; every output of every neuron group.
    origin : str
        What ran, for people.
    ids_sha256 : str
        SHA-256 of the token ids that were read, int64 little-endian, if known.
    histograms : mapping "node:port" -> list of int
        Values by the bits they need beside a sign: bin b holds 2**(b-1) to 2**b - 1 and -2**b to -2**(b-1) - 1,
        bin 0 holds 0 and -1. With d bits less, half rounded up, the bins below d become zero. Empty unless asked
        for.
    by_token : int32 array [tokens, outputs], optional
        The messages of each token, in the order of `messages`. None where no run was recorded.
    incidents : Incidents
        Values clamped where that is meant, and values that did not fit; none where no run was recorded.
    """

    tokens: int
    messages: Mapping[str, int]
    origin: str = ""
    ids_sha256: str = ""
    histograms: Mapping[str, list[int]] = field(default_factory=dict)
    by_token: NDArray[np.int32] | None = field(default=None, compare=False, repr=False)
    incidents: Incidents = field(default_factory=Incidents)

    @property
    def rates(self) -> dict[str, float]:
        """The mean number of messages a token causes at every output."""
        return {key: count / self.tokens for key, count in self.messages.items()}

    @property
    def columns(self) -> dict[str, NDArray[np.int32]]:
        """The messages [T] of every token at every output; none where no run was recorded."""
        return {} if self.by_token is None else dict(zip(self.messages, self.by_token.T, strict=True))

    @property
    def saturations(self) -> dict[str, int]:
        """Values clamped where that is meant, by node; nodes without any are left out."""
        return self.incidents.by_node(SATURATIONS)

    @property
    def overflows(self) -> dict[str, int]:
        """Values that did not fit, by node; nodes without any are left out."""
        return self.incidents.by_node(OVERFLOWS)

    def per_token(self, source: Source | str) -> float:
        """Return the mean number of messages a token causes at an output."""
        return self.messages[str(source)] / self.tokens

    def with_messages(self, messages: Mapping[str, int], origin: str) -> Activity:
        """Return an activity of other messages, of which only the totals are known."""
        return Activity(self.tokens, messages, origin=origin)


def group_ports(graph: Graph) -> dict[Source, int]:
    """Return every output of every neuron group, with its size."""
    return {node.out(port): size for node in graph for port, size in node.sends.items()}


def worst_case(graph: Graph) -> Activity:
    """Return the activity of a token none of whose messages is zero."""
    messages = {str(source): size for source, size in group_ports(graph).items()}
    return Activity(1, messages, origin="worst case: every message is sent")


def with_zeros(graph: Graph, shares: Mapping[str, float]) -> Activity:
    """Return an activity with a given share of zeros at some outputs, and none at the others.

    Parameters
    ----------
    graph : Graph
    shares : mapping name of a port -> share of zeros, 0 to 1
        Such as `o_proj`: what the Scale groups call the input of each projection.
    """
    tokens = 1000
    messages = {
        str(source): round(tokens * size * (1 - shares.get(source.port, 0.0)))
        for source, size in group_ports(graph).items()
    }
    return Activity(tokens, messages, origin="given shares of zeros at the inputs of projections")


def group_source(graph: Graph, source: Source) -> Source:
    """Follow synapses back to the group's output that feeds them; a host's output is returned as it is."""
    while isinstance(node := graph.by_name[source.node], Synapse):
        (source,) = node.inputs
    return source


def synaptic_operations(graph: Graph, messages: Mapping[str, Amount]) -> dict[str, Amount]:
    """Return the synaptic operations of every synapse: messages that reach it times their fan-out.

    A dense ternary synapse has a fan-out of its rows, zero weights included; a sum and a one-to-one connection
    of one. Where a wide projection is split into slices of its input, each gets its share of the messages.

    Parameters
    ----------
    graph : Graph
    messages : mapping "node:port" -> float or array [T]
        Of a token in the mean, `Activity.rates`, or of every token, `Activity.columns`.
    """
    found = {}
    for node in graph:
        if isinstance(node, Synapse):
            key = str(group_source(graph, node.inputs[0]))
            if key in messages:
                found[node.name] = messages[key] * node.fan_out
    return found


def neuron_updates(graph: Graph) -> dict[str, int]:
    """Return the neuron updates of every group a token: each neuron runs its program once."""
    return {node.name: node.neurons for node in graph if node.instructions}


def input_zeros(graph: Graph, activity: Activity) -> float:
    """Return the share of zeros at the inputs of all projections together."""
    inputs = dict(_projection_inputs(graph))
    return 1 - sum(map(activity.per_token, inputs)) / sum(inputs.values())


def projection_zeros(graph: Graph, activity: Activity) -> dict[str, float]:
    """Return the share of zeros at the input of each kind of projection, over all layers.

    Returns
    -------
    dict kind -> share, 0 to 1
        Kinds are the ports of the Scale groups: i_proj, f_proj, g_proj, o_proj, gate_proj, down_proj, lm_head.
    """
    sent: dict[str, float] = {}
    possible: dict[str, int] = {}
    for source, size in _projection_inputs(graph):
        sent[source.port] = sent.get(source.port, 0.0) + activity.per_token(source)
        possible[source.port] = possible.get(source.port, 0) + size
    return {port: 1 - sent[port] / possible[port] for port in sent}


def _projection_inputs(graph: Graph) -> Iterator[tuple[Source, int]]:
    """Give the outputs of the groups that scale, which are the inputs of projections, with their sizes."""
    for source, size in group_ports(graph).items():
        node = graph.by_name[source.node]
        if isinstance(node, NeuronGroup) and node.role is Role.SCALE:
            yield source, size

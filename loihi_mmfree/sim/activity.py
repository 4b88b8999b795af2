"""What a run sent: messages that were not zero, counted at every output of every neuron group.

On Loihi 2 a zero sends nothing, so these counts are what time and energy depend on. A recorder is a tap: give it
to `process(ids, tap)` of the engine or of a LavaNetwork with taps, and both count the same.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.compiler.artifact import REPORT
from loihi_mmfree.compiler.graph import Graph, Source
from loihi_mmfree.compiler.nodes import Broadcast, Delay, NeuronGroup, SumSynapse, Synapse, TernarySynapse
from loihi_mmfree.errors import ArtifactError, UsageError
from loihi_mmfree.files import write_whole
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Counters

SCHEMA_VERSION = 1
ACTIVITY = "activity.json"
_HISTOGRAM_BINS = 25


@dataclass(frozen=True)
class Activity:
    """Messages over a number of tokens.

    Parameters
    ----------
    tokens : int
        Tokens that passed through the network.
    messages : mapping "node:port" -> int
        Messages other than zero, over all neurons and tokens; every output of every neuron group.
    saturations, overflows : int
        Values clamped where that is meant, and values that did not fit.
    origin : str
        What ran, for people: backend and what it read.
    histograms : mapping "node:port" -> list of int
        Values by the number of bits of their magnitude, zeros first; empty unless asked for.
    """

    tokens: int
    messages: Mapping[str, int]
    saturations: int = 0
    overflows: int = 0
    origin: str = ""
    histograms: Mapping[str, list[int]] = field(default_factory=dict)

    def per_token(self, source: Source | str) -> float:
        """Return the mean number of messages a token causes at an output."""
        return self.messages[str(source)] / self.tokens

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Activity:
        """Read a description back.

        Raises
        ------
        ValueError
            It is not one.
        """
        if not isinstance(data, Mapping) or data.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"not an activity of schema {SCHEMA_VERSION}")
        known = {each.name for each in dataclasses.fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        if not isinstance(values.get("tokens"), int) or values["tokens"] < 1:
            raise ValueError("tokens must be a whole number of at least 1")
        messages = values.get("messages")
        if not isinstance(messages, Mapping) or not all(
            isinstance(count, int) and count >= 0 for count in messages.values()
        ):
            raise ValueError("messages must be counts by node:port")
        return cls(**values)


class ActivityRecorder:
    """A tap that counts.

    Parameters
    ----------
    graph : Graph
        Lowered.
    histograms : bool
        Also sort the values by magnitude.
    """

    def __init__(self, graph: Graph, histograms: bool = False) -> None:
        ports = group_ports(graph)
        self._messages = {str(source): 0 for source in ports}
        self._first = str(next(iter(ports)))
        self._tokens = 0
        self._bins = {str(s): np.zeros(_HISTOGRAM_BINS, dtype=np.int64) for s in ports} if histograms else {}

    def __call__(self, source: Source, values: Integers) -> None:
        """Count the messages [T, n] of one output."""
        key = str(source)
        if key not in self._messages:
            return
        self._messages[key] += int(np.count_nonzero(values))
        if key == self._first:
            self._tokens += len(values)
        if self._bins:
            self._bins[key] += _by_magnitude(values)

    def activity(self, counters: Counters | None = None, origin: str = "") -> Activity:
        """Return what was counted so far."""
        counters = counters or Counters()
        bins = {key: [int(count) for count in values] for key, values in self._bins.items()}
        return Activity(self._tokens, dict(self._messages), counters.saturations, counters.overflows, origin, bins)


def _by_magnitude(values: Integers) -> NDArray[np.int64]:
    """Count values by the bit length of their magnitude; exact, because they have far less than 53 bits."""
    bits = np.frexp(np.abs(values).astype(np.float64))[1]
    return np.bincount(np.minimum(bits, _HISTOGRAM_BINS - 1).reshape(-1), minlength=_HISTOGRAM_BINS)


def counted_activity(
    graph: Graph, messages: Mapping[str, int], tokens: int, counters: Counters | None = None, origin: str = ""
) -> Activity:
    """Return an activity of counts by `node:port`, such as those of FastEngine.messages.

    Parameters
    ----------
    graph : Graph
    messages : mapping "node:port" -> int
        At least the outputs of all neuron groups; others, as the host's, are left out.
    tokens : int
        Over which was counted.
    counters : Counters, optional
    origin : str
    """
    counters = counters or Counters()
    kept = {str(source): messages[str(source)] for source in group_ports(graph)}
    return Activity(tokens, kept, counters.saturations, counters.overflows, origin)


def group_ports(graph: Graph) -> dict[Source, int]:
    """Return every output of every neuron group, with its size."""
    return {
        node.out(port): size
        for node in graph
        if isinstance(node, NeuronGroup)
        for port, size in node.outputs.items()
    }


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


def synaptic_operations(graph: Graph, activity: Activity) -> dict[str, float]:
    """Return the synaptic operations of every synapse a token: messages that reach it times their fan-out.

    A dense ternary synapse has a fan-out of its rows, zero weights included; a sum and a one-to-one connection
    of one. Where a wide projection is split into slices of its input, each gets its share of the messages.
    """
    found = {}
    for node in graph:
        if not isinstance(node, Synapse):
            continue
        source = group_source(graph, node.inputs[0])
        if str(source) in activity.messages:
            found[node.name] = activity.per_token(source) * fan_out(node)
    return found


def fan_out(node: Synapse) -> float:
    """Return the synapses that a message of the source reaches, in the mean over the source's elements."""
    match node:
        case TernarySynapse():
            return node.rows * node.columns / node.source_size
        case Broadcast():
            return node.rows
        case SumSynapse() | Delay():
            return 1
        case _:
            raise TypeError(f"{node.name}: {type(node).__name__} is not a lowered synapse")


def neuron_updates(graph: Graph) -> dict[str, int]:
    """Return the neuron updates of every group a token: each neuron runs its program once."""
    return {node.name: node.size for node in graph if isinstance(node, NeuronGroup)}


def projection_zeros(graph: Graph, activity: Activity) -> dict[str, float]:
    """Return the share of zeros at the input of each kind of projection, over all layers.

    Returns
    -------
    dict kind -> share, 0 to 1
        Kinds are the ports of the Scale groups: i_proj, f_proj, g_proj, o_proj, gate_proj, down_proj, lm_head.
    """
    sent: dict[str, float] = {}
    possible: dict[str, int] = {}
    for source, size in group_ports(graph).items():
        node = graph.by_name[source.node]
        if isinstance(node, NeuronGroup) and node.role == "Scale":
            sent[source.port] = sent.get(source.port, 0.0) + activity.per_token(source)
            possible[source.port] = possible.get(source.port, 0) + size
    return {port: 1 - sent[port] / possible[port] for port in sent}


def save_activity(net_path: str | Path, activity: Activity) -> Path:
    """Write an activity into the `report` folder of a compiled network, and return the file.

    Raises
    ------
    UsageError
        The folder cannot be written.
    """
    path = Path(net_path) / REPORT / ACTIVITY
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: not written: {error.strerror}") from error
    write_whole(path, (json.dumps(activity.to_dict(), indent=1, sort_keys=True) + "\n").encode())
    return path


def load_activity(net_path: str | Path, graph: Graph) -> Activity | None:
    """Read the activity recorded for a compiled network; None if there is none.

    Raises
    ------
    ArtifactError
        The file is damaged or belongs to another network.
    """
    path = Path(net_path) / REPORT / ACTIVITY
    if not path.is_file():
        return None
    try:
        activity = Activity.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}; record it again with run --activity") from error
    ports = {str(source): size for source, size in group_ports(graph).items()}
    if activity.messages.keys() != ports.keys() or any(
        count > activity.tokens * ports[key] for key, count in activity.messages.items()
    ):
        raise ArtifactError(f"{path}: counts of another network; record it again with run --activity")
    return activity

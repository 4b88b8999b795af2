"""What travels in a time step: messages in and out of every core, over every link of the mesh, between chips.

In a pipelined network every neuron acts once a step, so a step's traffic is that of one token. A multicast is
routed as a tree, along the sender's row first, then along columns (XY), and counts once on every link of the
tree. The meshes of neighbouring chips join at their edges. What the host sends or reads is counted at the
core, not on links: where a system attaches its host is its own affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.loihi2.hardware import ChipSpec
from loihi_mmfree.place.placement import Placement
from loihi_mmfree.place.routes import HOST, Flow, flows

Position = tuple[int, int]
"""Chip, and router of its mesh (numbered like cores)."""


@dataclass(frozen=True)
class CoreTraffic:
    """Messages of one core in a step.

    Parameters
    ----------
    chip, core : int
    sent : float
        Messages that its neurons send, each counted once however many cores it goes to.
    copies : float
        The same, counted once for each core, or host, it goes to.
    received : float
        Messages that arrive, from other cores, from itself and from the host.
    """

    chip: int
    core: int
    sent: float
    copies: float
    received: float


@dataclass(frozen=True)
class LinkTraffic:
    """Messages over one directed link between two neighbouring routers in a step."""

    source: Position
    target: Position
    messages: float

    @property
    def between_chips(self) -> bool:
        """Whether the link leaves a chip."""
        return self.source[0] != self.target[0]


@dataclass(frozen=True)
class Traffic:
    """All messages of one step (one token, when pipelined).

    Parameters
    ----------
    message_bytes : int
        Size of a message on a link.
    cores : tuple of CoreTraffic
        In the placement's order.
    links : tuple of LinkTraffic
        Those that carry anything.
    host_sent, host_received : float
        Copies of messages that the host sends to cores, and messages that it reads.
    """

    message_bytes: int
    cores: tuple[CoreTraffic, ...]
    links: tuple[LinkTraffic, ...]
    host_sent: float
    host_received: float

    @property
    def sent(self) -> float:
        """Messages that all neurons send, each counted once."""
        return sum(core.sent for core in self.cores)

    @property
    def link_messages(self) -> float:
        """Messages times links they pass, over all chips."""
        return sum(link.messages for link in self.links)

    @property
    def link_bytes(self) -> float:
        """Bytes over all links."""
        return self.link_messages * self.message_bytes

    @property
    def busiest_link(self) -> LinkTraffic | None:
        """The link that carries most."""
        return max(self.links, key=lambda each: each.messages, default=None)

    def between_chips(self) -> dict[tuple[int, int], float]:
        """Return messages by (chip, neighbouring chip), over all links between the two."""
        total: dict[tuple[int, int], float] = {}
        for link in self.links:
            if link.between_chips:
                pair = (link.source[0], link.target[0])
                total[pair] = total.get(pair, 0.0) + link.messages
        return total


def traffic(
    graph: Graph, spec: ChipSpec, placement: Placement, activity: Mapping[str, float] | None = None
) -> Traffic:
    """Count the messages of a step.

    Parameters
    ----------
    activity : mapping of "node:port" to float, optional
        Mean messages a token of a port, over all its neurons; they are taken to be spread evenly. Ports that
        it does not name, and all ports without it, send from every neuron: the worst case.
    """
    multicasts = flows(graph, placement)
    weights = np.array([_weight(graph, flow, activity or {}) for flow in multicasts])
    sent, copies, received = (np.zeros(len(placement.cores) + 1) for _ in range(3))
    for flow, weight in zip(multicasts, weights, strict=True):
        # The last place of each array is the host's, which is HOST = -1.
        sent[flow.core] += weight
        copies[flow.core] += weight * len(flow.targets)
        received[list(flow.targets)] += weight
    cores = tuple(
        CoreTraffic(core.chip, core.core, *(float(each[position]) for each in (sent, copies, received)))
        for position, core in enumerate(placement.cores)
    )
    links = _Mesh(spec, placement).links(multicasts, weights)
    return Traffic(spec.message_bytes.value, cores, links, float(copies[HOST]), float(received[HOST]))


def _weight(graph: Graph, flow: Flow, activity: Mapping[str, float]) -> float:
    """Messages of a flow in a step."""
    key = str(flow.source)
    if key not in activity:
        return float(flow.count)
    return activity[key] * flow.count / graph.by_name[flow.source.node].outputs[flow.source.port]


class _Mesh:
    """The routers of all chips as one grid, and what each of their four outgoing links carries.

    Loads are kept as differences along the link's direction, so that a straight stretch of a route is two
    additions, and summed up at the end.
    """

    def __init__(self, spec: ChipSpec, placement: Placement) -> None:
        self.rows, self.columns = spec.mesh_rows.value, spec.mesh_columns.value
        self.chip_columns = spec.chip_columns.value
        places = np.array([(core.chip, core.core) for core in placement.cores]).reshape(-1, 2)
        chip_row, chip_column = self._chip_place(places[:, 0])
        self.row = chip_row * self.rows + places[:, 1] // self.columns
        self.column = chip_column * self.columns + places[:, 1] % self.columns
        shape = (int(self.row.max(initial=0)) + 2, int(self.column.max(initial=0)) + 2)
        self.east, self.west, self.south, self.north = (np.zeros(shape) for _ in range(4))

    def _chip_place(self, chips: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of chips: every other row is numbered backwards, so that successors are neighbours."""
        row, column = np.divmod(chips, self.chip_columns)
        return row, np.where(row % 2 == 0, column, self.chip_columns - 1 - column)

    def links(self, multicasts: tuple[Flow, ...], weights: NDArray[np.float64]) -> tuple[LinkTraffic, ...]:
        """Route every multicast and return the links that carry anything."""
        by_targets: dict[tuple[int, ...], list[int]] = {}
        for number, flow in enumerate(multicasts):
            targets = tuple(each for each in flow.targets if each != HOST)
            if flow.core != HOST and targets and weights[number] > 0:
                by_targets.setdefault(targets, []).append(number)
        for targets, numbers in by_targets.items():
            senders = np.array([multicasts[number].core for number in numbers])
            self._route(senders, np.array(targets), weights[numbers])
        return self._collect()

    def _route(self, senders: NDArray[np.int64], targets: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        """Add the trees from several senders to the same targets."""
        rows, columns = self.row[senders], self.column[senders]
        stops = np.unique(self.column[targets])
        tops = np.array([self.row[targets[self.column[targets] == stop]].min() for stop in stops])
        bottoms = np.array([self.row[targets[self.column[targets] == stop]].max() for stop in stops])
        _add(self.east, rows, columns, np.maximum(columns, stops.max()), weights, axis=1)
        _add(self.west, rows, np.minimum(columns, stops.min()), columns, weights, axis=1)
        for stop, top, bottom in zip(stops, tops, bottoms, strict=True):
            at = np.full_like(rows, stop)
            _add(self.south, at, rows, np.maximum(rows, bottom), weights, axis=0)
            _add(self.north, at, np.minimum(rows, top), rows, weights, axis=0)

    def _collect(self) -> tuple[LinkTraffic, ...]:
        # A westward or northward link is kept at the router it arrives at: its stretch is that of its reverse.
        found: list[LinkTraffic] = []
        for loads, axis, forward in (
            (self.east, 1, True),
            (self.west, 1, False),
            (self.south, 0, True),
            (self.north, 0, False),
        ):
            total = np.cumsum(loads, axis=axis)
            # Sums of differences of fractions leave dust where nothing travels.
            for row, column in np.argwhere(total > 1e-6):
                here = self._router(int(row), int(column))
                there = self._router(int(row) + (axis == 0), int(column) + (axis == 1))
                ends = (here, there) if forward else (there, here)
                found.append(LinkTraffic(*ends, float(total[row, column])))
        return tuple(sorted(found, key=lambda each: (each.source, each.target)))

    def _router(self, row: int, column: int) -> Position:
        chip_row, chip_column = row // self.rows, column // self.columns
        along = chip_column if chip_row % 2 == 0 else self.chip_columns - 1 - chip_column
        chip = chip_row * self.chip_columns + along
        return chip, row % self.rows * self.columns + column % self.columns


def _add(
    loads: NDArray[np.float64],
    lines: NDArray[np.int64],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    weights: NDArray[np.float64],
    axis: int,
) -> None:
    """Add a stretch of links, from position `first` to `end` along an axis, to each of several lines."""
    for at, sign in ((first, 1.0), (end, -1.0)):
        place = (lines, at) if axis == 1 else (at, lines)
        np.add.at(loads, place, sign * weights)

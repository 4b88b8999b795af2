"""Who sends to which cores: the multicasts of a placed graph."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import token_input
from loihi_mmfree.place.connections import Connection, connections, placed_nodes
from loihi_mmfree.place.placement import Placement, Shard

HOST = -1
"""Stands for the host where a core's number is expected."""


@dataclass(frozen=True)
class Flow:
    """Neurons of one core whose messages go to the same cores.

    Parameters
    ----------
    source : Source
        The port that sends.
    first, count : int
        Which of its elements.
    core : int
        Position of the sender in `Placement.cores`, or HOST.
    targets : tuple of int
        Positions of the receivers, ascending; HOST comes first if the host reads them.
    """

    source: Source
    first: int
    count: int
    core: int
    targets: tuple[int, ...]


@dataclass(frozen=True)
class _Reader:
    """Where the readers of one connection sit: ranges of neurons, ascending, and their cores."""

    connection: Connection
    starts: tuple[int, ...]
    cores: tuple[int, ...]


def flows(graph: Graph, placement: Placement) -> tuple[Flow, ...]:
    """Return every multicast of a step: first what the host sends in, then by sender in the graph's order."""
    return tuple(_all_flows(graph, placement))


def output_axons(placement: Placement, multicasts: tuple[Flow, ...]) -> list[int]:
    """Return the routing entries of every core: one for each message and core (or host) it goes to."""
    entries = [0] * len(placement.cores)
    for flow in multicasts:
        if flow.core != HOST:
            entries[flow.core] += flow.count * len(flow.targets)
    return entries


def _all_flows(graph: Graph, placement: Placement) -> Iterator[Flow]:
    held = shards_by_node(placement)
    readers = _readers(graph, placement, held)
    tokens = token_input(graph)
    everything = [(Shard(tokens.name, 0, tokens.size), HOST)]
    for node in (tokens, *placed_nodes(graph, placement.head)):
        where = everything if node is tokens else held.get(node.name, [])
        # A logit on chip has no port in the graph: what it sends is read by the host.
        for port in node.outputs or ("out",):
            source = node.out(port)
            found = readers.get(source, []) if node.outputs else [_host_reader(source, where)]
            for shard, core in where:
                yield from _flows_of(source, shard, core, found)


def shards_by_node(placement: Placement) -> dict[str, list[tuple[Shard, int]]]:
    """Return the shards of every node in the order of their neurons, with the position of their core."""
    held: dict[str, list[tuple[Shard, int]]] = {}
    for position, core in enumerate(placement.cores):
        for shard in core.shards:
            held.setdefault(shard.node, []).append((shard, position))
    for shards in held.values():
        shards.sort(key=lambda each: each[0].first)
    return held


def _readers(
    graph: Graph, placement: Placement, held: dict[str, list[tuple[Shard, int]]]
) -> dict[Source, list[_Reader]]:
    on_chip = {node.name for node in placed_nodes(graph, placement.head)}
    found: dict[Source, list[_Reader]] = {}
    for node in placed_nodes(graph, head="chip"):
        where = held.get(node.name, [])
        starts = tuple(shard.first for shard, _ in where) if node.name in on_chip else (0,)
        cores = tuple(core for _, core in where) if node.name in on_chip else (HOST,)
        for each in connections(graph, node):
            found.setdefault(each.source, []).append(_Reader(each, starts, cores))
    return found


def _host_reader(source: Source, where: list[tuple[Shard, int]]) -> _Reader:
    size = max((shard.end for shard, _ in where), default=0)
    return _Reader(Connection(source, 0, size, one_to_one=True, latency=1), (0,), (HOST,))


def _flows_of(source: Source, shard: Shard, core: int, readers: list[_Reader]) -> Iterator[Flow]:
    """The multicasts of one port of one shard: cut wherever the set of receivers changes."""
    cuts = {shard.first, shard.end}
    for reader in readers:
        bounds = (reader.connection.first, reader.connection.first + reader.connection.columns)
        cuts.update(reader.starts if reader.connection.one_to_one else bounds)
    ordered = sorted(cut for cut in cuts if shard.first <= cut <= shard.end)
    for first, end in pairwise(ordered):
        targets = {core for reader in readers for core in _receivers(reader, first)}
        if targets:
            yield Flow(source, first, end - first, core, tuple(sorted(targets)))


def _receivers(reader: _Reader, element: int) -> tuple[int, ...]:
    connection = reader.connection
    if connection.one_to_one:
        position = bisect_right(reader.starts, element) - 1
        return reader.cores[position : position + 1] if position >= 0 else ()
    return reader.cores if connection.first <= element < connection.first + connection.columns else ()

"""What a token costs each core in each time step, counted from graph, placement and activity.

Synapses live on the core of the neurons they end at. A message is worked off in the step after it was sent, also
by a delayed connection; the neurons of a group run their program in the step of the group's offset.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import add
from typing import Any

from loihi_mmfree.activity.counts import Activity
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.schedule import offsets
from loihi_mmfree.loihi2.hardware import LOIHI2, ChipSpec
from loihi_mmfree.place.connections import connections, placeable
from loihi_mmfree.place.placement import Placement, Shard
from loihi_mmfree.place.routes import HOST, Flow, flows
from loihi_mmfree.place.traffic import Traffic, traffic


@dataclass(frozen=True)
class CoreLoad:
    """Events of one core in one time step, in the mean over tokens.

    Parameters
    ----------
    synaptic_operations : float
    instructions : float
        Of the neuron programs, over all neurons that act.
    messages_in, messages_out : float
        That arrive at the core, and that its neurons send; none is zero.
    deliveries : float
        Messages out times the cores each goes to.
    """

    synaptic_operations: float = 0.0
    instructions: float = 0.0
    messages_in: float = 0.0
    messages_out: float = 0.0
    deliveries: float = 0.0

    def __add__(self, other: CoreLoad) -> CoreLoad:
        return CoreLoad(*map(add, self.values, other.values))

    @property
    def values(self) -> tuple[float, ...]:
        """The numbers, in order."""
        return (
            self.synaptic_operations,
            self.instructions,
            self.messages_in,
            self.messages_out,
            self.deliveries,
        )


@dataclass(frozen=True)
class StepLoad:
    """One time step.

    Parameters
    ----------
    cores : tuple of CoreLoad
        Those that can be the slowest: no other core has at least as much of everything.
    chip_messages : float
        Messages that leave the busiest chip for other chips.
    link_messages : float
        Messages over the busiest link of a mesh. Counted where all groups are at work; the steps of a lone token
        carry less, and zero stands there.
    """

    cores: tuple[CoreLoad, ...]
    chip_messages: float
    link_messages: float = 0.0


@dataclass(frozen=True)
class Events:
    """Everything a token causes, over the whole network: what dynamic energy depends on."""

    synaptic_operations: float
    instructions: float
    messages: float
    hops: float
    chip_hops: float


@dataclass(frozen=True)
class Workload:
    """A network on a system, as far as time and energy depend on it.

    Parameters
    ----------
    chips, cores : int
        In use.
    board_chips : int, optional
        Of the system; none if no particular board is meant.
    pipelined : StepLoad
        A step in which every group has a token.
    steps : tuple of StepLoad
        The steps of a token that falls through alone.
    events : Events
    origin : str
        Of the activity.
    """

    chips: int
    cores: int
    board_chips: int | None
    pipelined: StepLoad
    steps: tuple[StepLoad, ...]
    events: Events
    origin: str

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description; equal steps are kept once."""
        distinct = list(dict.fromkeys(self.steps))
        number = {step: position for position, step in enumerate(distinct)}
        return {
            **dataclasses.asdict(dataclasses.replace(self, steps=())),
            "steps": {
                "distinct": [dataclasses.asdict(step) for step in distinct],
                "order": [number[step] for step in self.steps],
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Workload:
        """Read a description back."""
        distinct = [_step(step) for step in data["steps"]["distinct"]]
        steps = tuple(distinct[number] for number in data["steps"]["order"])
        fixed = {"pipelined": _step(data["pipelined"]), "events": Events(**data["events"]), "steps": steps}
        return cls(**{**data, **fixed})


def _step(data: Mapping[str, Any]) -> StepLoad:
    return StepLoad(
        tuple(CoreLoad(**core) for core in data["cores"]), data["chip_messages"], data["link_messages"]
    )


def count_workload(
    graph: Graph, placement: Placement, activity: Activity, system: ChipSpec, travelled: Traffic | None = None
) -> Workload:
    """Count what a token costs.

    Parameters
    ----------
    graph : Graph
        Lowered and scheduled; its tensors are not read.
    placement : Placement
        Of this graph.
    activity : Activity
        Of this graph: measured, or the worst case.
    system : ChipSpec
        The one the placement was made for.
    travelled : Traffic, optional
        Of all these; counted if not given.
    """
    counting = _Counting(graph, placement, activity, system)
    for position, core in enumerate(placement.cores):
        for shard in core.shards:
            counting.add_shard(position, shard)
    for flow in flows(graph, placement):
        counting.add_flow(flow)
    return counting.finish(travelled or traffic(graph, system, placement, activity.rates))


class _Counting:
    """Loads so far, by time step and core (its position in the placement)."""

    def __init__(self, graph: Graph, placement: Placement, activity: Activity, system: ChipSpec) -> None:
        self.graph, self.placement, self.activity, self.system = graph, placement, activity, system
        self.received = offsets(graph)
        self.loads: dict[int, dict[int, CoreLoad]] = defaultdict(lambda: defaultdict(CoreLoad))
        self.leaving: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))

    def add_shard(self, core: int, shard: Shard) -> None:
        """Count the programs of a shard's neurons and the synapses that end at them."""
        node = placeable(self.graph, shard.node)
        for connection in connections(self.graph, node):
            operations = connection.synapses(shard.count) * self._rate(connection.source)
            step = self.received[connection.source.node] + 1
            # The host's row goes into the first group without a synapse.
            if not self.graph.by_name[connection.source.node].host_end:
                self.loads[step][core] += CoreLoad(synaptic_operations=operations)
        if node.instructions:
            instructions = shard.count * node.instructions
            self.loads[self.received[node.name]][core] += CoreLoad(instructions=instructions)

    def add_flow(self, flow: Flow) -> None:
        """Count the messages of a multicast where they are sent and where they arrive."""
        if flow.core == HOST:
            return  # the host's own time is not modelled
        messages = flow.count * self._rate(flow.source)
        step = self.received[flow.source.node]
        sent = CoreLoad(messages_out=messages, deliveries=messages * len(flow.targets))
        self.loads[step][flow.core] += sent
        for core in flow.targets:
            if core != HOST:
                self.loads[step + 1][core] += CoreLoad(messages_in=messages)
        here = self.placement.cores[flow.core].chip
        chips = {self.placement.cores[core].chip for core in flow.targets if core != HOST} - {here}
        self.leaving[step][here] += messages * len(chips)

    def _rate(self, source: Source) -> float:
        """Messages that an element of an output sends, in the mean."""
        node = self.graph.by_name[source.node]
        if source.port not in node.sends:
            return 1.0  # what passes between host and chip is never left out
        return self.activity.per_token(source) / node.outputs[source.port]

    def finish(self, travelled: Traffic) -> Workload:
        """Return the sum, with what travels over links."""
        whole: dict[int, CoreLoad] = defaultdict(CoreLoad)
        leaving: dict[int, float] = defaultdict(float)
        for step, loads in self.loads.items():
            for core, load in loads.items():
                whole[core] += load
            for chip, messages in self.leaving[step].items():
                leaving[chip] += messages
        total = sum(whole.values(), CoreLoad())
        inside = [link.messages for link in travelled.links if not link.between_chips]
        return Workload(
            chips=self.placement.chips_used,
            cores=self.placement.cores_used,
            board_chips=None if self.system.name == LOIHI2.name else self.system.chips.value,
            pipelined=_step_load(whole, leaving, max(inside, default=0.0)),
            steps=tuple(_step_load(self.loads[n], self.leaving[n]) for n in range(max(self.loads) + 1)),
            events=Events(
                synaptic_operations=total.synaptic_operations,
                instructions=total.instructions,
                messages=total.messages_out,
                hops=sum(inside),
                chip_hops=sum(travelled.between_chips().values()),
            ),
            origin=self.activity.origin,
        )


def _step_load(loads: Mapping[int, CoreLoad], leaving: Mapping[int, float], link: float = 0.0) -> StepLoad:
    # Rounded, so that steps which differ by the order of a sum are the same.
    rounded = [CoreLoad(*(round(value, 3) for value in load.values)) for load in loads.values()]
    return StepLoad(_frontier(rounded), round(max(leaving.values(), default=0.0), 3), round(link, 3))


def _frontier(loads: Iterable[CoreLoad]) -> tuple[CoreLoad, ...]:
    """The loads that no other one exceeds or equals in everything, largest first."""
    kept: list[CoreLoad] = []
    for load in sorted(set(loads), key=lambda each: each.values, reverse=True):
        if not any(all(a >= b for a, b in zip(k.values, load.values, strict=True)) for k in kept):
            kept.append(load)
    return tuple(kept)

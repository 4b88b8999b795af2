"""Does a placement keep every limit of a system? Every one exceeded, with numbers and what would help."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.loihi2.hardware import ChipSpec
from loihi_mmfree.place.connections import placed_nodes
from loihi_mmfree.place.placement import Core, Placement
from loihi_mmfree.place.resources import UNITS, Costs, Usage
from loihi_mmfree.place.routes import flows, output_axons, shards_by_node

CHIPS = "chips"
CORES = "cores of one chip"
ANOTHER_SYSTEM = "`chip=FILE`, a system with more"
TWO_BIT_WEIGHTS, STRADDLING = "`weight_bits=2`", "`straddle=True`"


@dataclass(frozen=True)
class ExceededLimit:
    """A limit that is exceeded.

    Parameters
    ----------
    where : str
        The node, block, core or system.
    resource : str
        What there is too much of, with its unit.
    used, limit : int
    option : str
        What would help: a setting, as a message names it (`options`).
    """

    where: str
    resource: str
    used: int
    limit: int
    option: str

    def __str__(self) -> str:
        return f"{self.where}: {self.used} {self.resource}, at most {self.limit} ({self.option})"


def core_usages(graph: Graph, spec: ChipSpec, placement: Placement) -> tuple[Usage, ...]:
    """Return resource -> (used, limit) of every core, in the placement's order."""
    costs = Costs(graph, spec, placement.weight_bits)
    entries = output_axons(placement, flows(graph, placement))
    pairs = zip(placement.cores, entries, strict=True)
    return tuple(costs.usage(core.shards, routing) for core, routing in pairs)


def check(graph: Graph, spec: ChipSpec, placement: Placement) -> list[ExceededLimit]:
    """Return every limit that a placement exceeds.

    Raises
    ------
    ValueError
        The placement does not hold every neuron of the graph exactly once.
    """
    require_complete(graph, placement)
    found = [*exceeded_widths(spec, placement.weight_bits), *exceeded_delays(graph, spec, placement.head)]
    found += exceeded_places(spec, placement)
    for core, used in zip(placement.cores, core_usages(graph, spec, placement), strict=True):
        found += _exceeded_on_core(core, used)
    return found


def require_complete(graph: Graph, placement: Placement) -> None:
    """Raise ValueError unless every neuron that belongs on chip is placed exactly once, and nothing else is."""
    held = shards_by_node(placement)
    sizes = {node.name: node.neurons for node in placed_nodes(graph, placement.head)}
    strangers = sorted(set(held) - set(sizes))
    if strangers:
        raise ValueError(f"the placement holds {', '.join(strangers)}, which the graph does not place on chip")
    for name, size in sizes.items():
        expected = 0
        for shard, _ in held.get(name, []):
            if shard.first != expected:
                raise ValueError(f"{name}: neuron {min(shard.first, expected)} is not placed exactly once")
            expected = shard.end
        if expected != size:
            raise ValueError(f"{name}: {expected} neurons are placed, the graph has {size}")


def exceeded_widths(spec: ChipSpec, weight_bits: int) -> list[ExceededLimit]:
    """Return that weights are wider than a synapse holds, if they are."""
    if weight_bits <= spec.weight_bits.value:
        return []
    option = TWO_BIT_WEIGHTS if spec.weight_bits.value >= 2 else ANOTHER_SYSTEM
    return [ExceededLimit(spec.name, "bits of a weight", weight_bits, spec.weight_bits.value, option)]


def exceeded_delays(graph: Graph, spec: ChipSpec, head: str) -> Iterator[ExceededLimit]:
    """Yield the connections that take more steps than a synapse can delay."""
    costs = Costs(graph, spec, weight_bits=1)
    for node in placed_nodes(graph, head):
        for source, each in zip(node.inputs, costs.group(node.name).connections, strict=True):
            # A synapse takes one step without any delay.
            if each.latency - 1 > spec.synapse_delay.value:
                yield ExceededLimit(
                    source.node,
                    "steps of synaptic delay",
                    each.latency - 1,
                    spec.synapse_delay.value,
                    ANOTHER_SYSTEM,
                )


def exceeded_places(spec: ChipSpec, placement: Placement) -> Iterator[ExceededLimit]:
    """Yield that a placement names chips or cores which the system does not have, if it does."""
    chips = 1 + max((core.chip for core in placement.cores), default=-1)
    cores = 1 + max((core.core for core in placement.cores), default=-1)
    if chips > spec.chips.value:
        yield ExceededLimit(spec.name, CHIPS, chips, spec.chips.value, ANOTHER_SYSTEM)
    if cores > spec.cores_per_chip.value:
        yield ExceededLimit(spec.name, CORES, cores, spec.cores_per_chip.value, STRADDLING)


def _exceeded_on_core(core: Core, used: Usage) -> Iterator[ExceededLimit]:
    for resource, (amount, limit) in used.items():
        if amount > limit:
            where = f"chip {core.chip} core {core.core} ({', '.join(shard.node for shard in core.shards)})"
            yield ExceededLimit(where, UNITS[resource], amount, limit, ANOTHER_SYSTEM)

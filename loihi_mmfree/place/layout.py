"""Lining up the split blocks of a network along the chips of a system."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loihi_mmfree.errors import UsageError
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.loihi2.hardware import ChipSpec
from loihi_mmfree.place.check import (
    ANOTHER_SYSTEM,
    CHIPS,
    CORES,
    STRADDLING,
    ExceededLimit,
    check,
    exceeded_delays,
    exceeded_widths,
)
from loihi_mmfree.place.connections import (
    HEAD_BLOCK,
    Connection,
    connections,
    placed_nodes,
    placement_block,
)
from loihi_mmfree.place.partition import (
    UNBOUNDED,
    Member,
    Partitioner,
    Plan,
    Rules,
    allowed,
    demand,
)
from loihi_mmfree.place.placement import HEADS, OBJECTIVES, Core, Placement, Shard
from loihi_mmfree.place.resources import RESOURCES, UNITS, Costs


@dataclass(frozen=True)
class Request:
    """What is asked of a placement.

    Parameters
    ----------
    weight_bits : int
        Bits a weight takes in synapse memory: 2 or 8.
    head : str
        Where final norm, head and logits are computed: "host" or "chip".
    objective : str
        "chips": the fewest chips. "speed": as many as `chips` says. On them, the lightest fullest core.
    chips : int, optional
        How many chips may be used. Without it, "speed" spreads over the fewest that hold the network.
    straddle : bool
        Whether a block's cores may lie on more than one chip.
    """

    weight_bits: int
    head: str = "host"
    objective: str = "chips"
    chips: int | None = None
    straddle: bool = False


def require_sensible(request: Request, spec: ChipSpec) -> None:
    """Refuse a request that no network could have met.

    Raises
    ------
    UsageError
        An unknown choice, or more chips than the system has.
    """
    for name, value, known in (("head", request.head, HEADS), ("objective", request.objective, OBJECTIVES)):
        if value not in known:
            raise UsageError(f"{name} is {value!r}; it must be one of {', '.join(known)}")
    if request.chips is not None and not 1 <= request.chips <= spec.chips.value:
        raise UsageError(f"chips is {request.chips}; {spec.name} has {spec.chips.value}")


def attempt(graph: Graph, spec: ChipSpec, request: Request) -> tuple[Placement | None, list[ExceededLimit]]:
    """Return a placement that keeps every limit, or what is in its way."""
    return _Layouts(graph, spec, request).run()


@dataclass(frozen=True)
class _Block:
    """A block split over cores, and where its first core is, counted through all chips."""

    name: str
    groups: tuple[str, ...]
    plan: Plan
    start: int


class _Layouts:
    """One graph, one system, one request."""

    def __init__(self, graph: Graph, spec: ChipSpec, request: Request) -> None:
        self.graph, self.spec, self.request = graph, spec, request
        self.nodes = placed_nodes(graph, request.head)
        self.costs = Costs(graph, spec, request.weight_bits)
        self.partitioner = Partitioner(self.costs)
        self.readers = _readers(graph)
        self.capacity = spec.cores_per_chip.value

    def run(self) -> tuple[Placement | None, list[ExceededLimit]]:
        """Place, after what no partition could mend is ruled out; matrices share cores only if that helps."""
        exceeded = [
            *exceeded_widths(self.spec, self.request.weight_bits),
            *exceeded_delays(self.graph, self.spec, self.request.head),
            *self._neurons_too_large(),
        ]
        if exceeded:
            return None, exceeded
        layouts = {tight: self._layout(Rules(tight=tight)) for tight in (False, True)}
        faults = {tight: list(self._exceeded_by_layout(layouts[tight])) for tight in layouts}
        tight = min(layouts, key=lambda each: (len(faults[each]), self._chips(layouts[each]), each))
        if faults[tight]:
            return None, faults[tight]
        return self._first_that_fits(layouts[tight], tight)

    def _first_that_fits(self, layout: list[_Block], tight: bool) -> tuple[Placement | None, list[ExceededLimit]]:
        """Return the lightest placement, or a heavier one where routing entries were estimated too low."""
        found: list[ExceededLimit] = []
        for each in self._from_the_lightest(layout, tight):
            placement = self._placement(each)
            found = check(self.graph, self.spec, placement)
            if not found:
                return placement, []
        return None, found

    def _members(self, rules: Rules) -> dict[str, Member]:
        """Every group with its fan-out; readers come first, for their cores are what fans out."""
        spread: dict[str, int] = {}
        members: dict[str, Member] = {}
        for node in reversed(self.nodes):
            ports = [node.out(port) for port in node.outputs]
            readers = [each for port in ports for each in self.readers.get(port, [])]
            fan_out = sum(self._copies(reader, each, spread) for reader, each in readers)
            member = Member(node.neurons, self.costs.group(node.name), fan_out or 1)
            members[node.name] = member
            alone = self.partitioner.cores_alone(member, rules) if member.reads_vectors else self.capacity
            spread[node.name] = min(node.neurons, alone)
        return members

    def _copies(self, reader: Node, connection: Connection, spread: dict[str, int]) -> int:
        """To how many cores a message goes for one of its readers; the host counts as one."""
        return 1 if connection.one_to_one else spread.get(reader.name, 1)

    def _neurons_too_large(self) -> Iterator[ExceededLimit]:
        """The groups of which not a single neuron fits on a core."""
        for name, member in self._members(Rules()).items():
            for resource, used, limit in zip(
                RESOURCES, demand(self.costs, member, 1), allowed(self.costs, UNBOUNDED), strict=False
            ):
                if used > limit:
                    what = f"{UNITS[resource]} for one neuron"
                    yield ExceededLimit(name, what, used, limit, ANOTHER_SYSTEM)

    def _layout(self, rules: Rules) -> list[_Block]:
        """Split every block, and line their cores up along the chips."""
        members, position = self._members(rules), 0
        layout: list[_Block] = []
        for name, groups in self._blocks().items():
            plan = self.partitioner.plan(tuple(members[each] for each in groups), rules)
            left = -position % self.capacity
            if self._stays_together(name) and left < len(plan):
                position += left
            layout.append(_Block(name, groups, plan, position))
            position += len(plan)
        return layout

    def _blocks(self) -> dict[str, tuple[str, ...]]:
        blocks: dict[str, tuple[str, ...]] = {}
        for node in self.nodes:
            block = placement_block(node)
            blocks[block] = (*blocks.get(block, ()), node.name)
        return blocks

    def _stays_together(self, block: str) -> bool:
        return not self.request.straddle and block != HEAD_BLOCK

    def _chips(self, layout: list[_Block]) -> int:
        return -(-max((each.start + len(each.plan) for each in layout), default=0) // self.capacity)

    def _exceeded_by_layout(self, layout: list[_Block]) -> Iterator[ExceededLimit]:
        for block in layout:
            if self._stays_together(block.name) and len(block.plan) > self.capacity:
                yield ExceededLimit(block.name, CORES, len(block.plan), self.capacity, STRADDLING)
        limit = self.request.chips or self.spec.chips.value
        if self._chips(layout) > limit:
            yield ExceededLimit(self.spec.name, CHIPS, self._chips(layout), limit, ANOTHER_SYSTEM)

    def _from_the_lightest(self, layout: list[_Block], tight: bool) -> Iterator[list[_Block]]:
        """Yield layouts: lightened over the chips asked for, then over those of the layout, then as it is."""
        lighter = self._lightened(layout, self._chips(layout), tight)
        if self.request.objective == "speed" and self.request.chips:
            yield self._lightened(lighter, self.request.chips, tight)
        yield lighter
        yield layout

    def _lightened(self, layout: list[_Block], chips: int, tight: bool) -> list[_Block]:
        """Bisect the least bound on the load, to a thousandth, that keeps to some chips; never end heavier."""
        load = self._load(layout)
        too_low, enough = 0, load
        while enough - too_low > max(1, enough // 1000):
            middle = (too_low + enough) // 2
            found = self._layout(Rules(middle, tight))
            fits = not list(self._exceeded_by_layout(found)) and self._chips(found) <= chips
            if fits and (found_load := self._load(found)) <= load:
                layout, load, enough = found, found_load, middle
            else:
                too_low = middle
        return layout

    def _load(self, layout: list[_Block]) -> int:
        """Load of the fullest core; blocks that are split alike share their plan, and are counted once."""
        plans = {id(block.plan): block for block in layout}
        return max(self._core_load(block, core) for block in plans.values() for core in block.plan)

    def _core_load(self, block: _Block, core: tuple[tuple[int, int, int], ...]) -> int:
        shards = [Shard(block.groups[group], first, count) for group, first, count in core]
        operations = sum(self.costs.group(shard.node).operations(shard.count) for shard in shards)
        return self.costs.load(operations, self.costs.input_axons(shards))

    def _placement(self, layout: list[_Block]) -> Placement:
        cores: list[Core] = []
        for block in layout:
            for offset, held in enumerate(block.plan):
                chip, core = divmod(block.start + offset, self.capacity)
                shards = tuple(Shard(block.groups[group], first, count) for group, first, count in held)
                cores.append(Core(chip, core, shards))
        asked = self.request
        return Placement(self.spec.name, asked.weight_bits, asked.head, asked.objective, tuple(cores))


def _readers(graph: Graph) -> dict[Source, list[tuple[Node, Connection]]]:
    """The groups that read each port, on chip or not."""
    found: dict[Source, list[tuple[Node, Connection]]] = {}
    for node in placed_nodes(graph, head="chip"):
        for each in connections(graph, node):
            found.setdefault(each.source, []).append((node, each))
    return found

"""Splitting the groups of one block over as few cores as hold them, evenly.

Three kinds of groups. *Matrices*, many neurons that each read a vector, are split evenly over cores of their
own. *Sums*, single neurons that read a vector, go to the core that is lightest with them. *Elementwise* groups,
whose neurons read one element each and send to many cores, are dealt out over all cores of the block: that spreads
their messages, their routing entries and their updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from loihi_mmfree.ir.graph import Source
from loihi_mmfree.place.resources import RESOURCES, Costs, NeuronCost

INPUT_AXONS = RESOURCES.index("input_axons")
UNBOUNDED = 1 << 62


@dataclass(frozen=True)
class Member:
    """A group as the partition sees it; equal blocks have equal members, whatever their names.

    Parameters
    ----------
    size : int
    cost : NeuronCost
    fan_out : int
        Routing entries of one neuron: the cores that its messages go to.
    """

    size: int
    cost: NeuronCost
    fan_out: int

    @property
    def reads_vectors(self) -> bool:
        """Whether a neuron reads more than one element of some source."""
        return any(not each.one_to_one and each.columns > 1 for each in self.cost.connections)

    @property
    def is_sum(self) -> bool:
        """Whether this is a single neuron that reads a vector: nothing there to split."""
        return self.size == 1 and self.reads_vectors


@dataclass
class CoreFill:
    """A core being filled; `floor` is the greatest load of any single neuron on it."""

    floor: int = 0
    used: list[int] = field(default_factory=lambda: [0] * (len(RESOURCES) + 1))
    shards: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """How a block is to be split.

    Parameters
    ----------
    load : int
        Greatest load of a core in a step, in synaptic operations; or that of a single neuron on it, where that is
        more, since no split makes it less.
    tight : bool
        Matrices share cores, instead of each having its own.
    """

    load: int = UNBOUNDED
    tight: bool = False


Plan = tuple[tuple[tuple[int, int, int], ...], ...]
"""For each core of a block: (position of the group in the block, first neuron, count)."""


def demand(costs: Costs, member: Member, count: int) -> list[int]:
    """Return what `count` neurons take up, in the order of RESOURCES, and their synaptic operations."""
    parts = costs.demand(member.cost, count, count * member.fan_out)
    return [*(parts[name] for name in RESOURCES), member.cost.operations(count)]


def allowed(costs: Costs, load: int) -> list[int]:
    """Return what a core may hold, in the order of RESOURCES, and the synaptic operations it may execute."""
    found = [*(costs.limits[name] for name in RESOURCES), load]
    found[INPUT_AXONS] = min(found[INPUT_AXONS], load // costs.spec.message_operations.value)
    return found


class _Demands:
    """What numbers of neurons of one group take up; remembers what it has counted."""

    def __init__(self, costs: Costs, member: Member) -> None:
        self.costs, self.member = costs, member
        self._known: dict[int, list[int]] = {}

    def of(self, count: int) -> list[int]:
        """As the function `demand`."""
        if count not in self._known:
            self._known[count] = demand(self.costs, self.member, count)
        return self._known[count]


class Partitioner:
    """Splits blocks under the limits of one system; remembers blocks it has seen."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        self._demands: dict[Member, _Demands] = {}
        self._plans: dict[tuple[tuple[Member, ...], Rules], Plan] = {}
        self._alone: dict[tuple[Member, Rules], int] = {}

    def cores_alone(self, member: Member, rules: Rules) -> int:
        """Return over how many cores a group is split that shares them with nothing; it must fit at all."""
        key = (_nameless(member), rules)
        if key not in self._alone:
            room = self._fill(key[:1], rules).room(0, CoreFill())
            self._alone[key] = -(-member.size // max(1, room))
        return self._alone[key]

    def plan(self, members: tuple[Member, ...], rules: Rules) -> Plan:
        """Return what each core of a block holds."""
        key = (tuple(_nameless(each) for each in members), rules)
        if key not in self._plans:
            self._plans[key] = self._fill(key[0], rules).run()
        return self._plans[key]

    def _fill(self, members: Sequence[Member], rules: Rules) -> _BlockFill:
        for each in members:
            self._demands.setdefault(each, _Demands(self.costs, each))
        return _BlockFill(self.costs, [self._demands[each] for each in members], rules)


class _BlockFill:
    """The cores of one block as they fill up."""

    def __init__(self, costs: Costs, demands: Sequence[_Demands], rules: Rules) -> None:
        self.costs, self.demands, self.rules = costs, demands, rules
        self.members = members = [each.member for each in demands]
        self.floors = [costs.load(each.cost.operations(1), each.cost.messages_in(1)) for each in members]
        self.cores: list[CoreFill] = []
        self._rooms: dict[tuple[int, ...], int] = {}

    def run(self) -> Plan:
        """Place all groups: matrices, then sums from the largest, then elementwise groups."""
        positions = range(len(self.members))
        vectors = [each for each in positions if self.members[each].reads_vectors]
        for position in vectors:
            if not self.members[position].is_sum:
                self._matrix(position)
        sums = [each for each in vectors if self.members[each].is_sum]
        for position in sorted(sums, key=lambda each: -self.members[each].cost.messages_in(1)):
            self._sum(position)
        for position in positions:
            if position not in vectors:
                self._elementwise(position)
        return tuple(tuple(sorted(each.shards)) for each in self.cores)

    def room(self, position: int, core: CoreFill) -> int:
        """Return how many neurons of a group a core has room for."""
        key = (position, core.floor, *core.used)
        if key not in self._rooms:
            limits = allowed(self.costs, max(self.rules.load, core.floor, self.floors[position]))
            fits, fails = 0, self.members[position].size + 1
            while fails - fits > 1:
                middle = (fits + fails) // 2
                needed = self.demands[position].of(middle)
                if all(a + b <= limit for a, b, limit in zip(core.used, needed, limits, strict=True)):
                    fits = middle
                else:
                    fails = middle
            self._rooms[key] = fits
        return self._rooms[key]

    def _add(self, position: int, core: CoreFill, first: int, count: int) -> None:
        needed = self.demands[position].of(count)
        core.used = [a + b for a, b in zip(core.used, needed, strict=True)]
        core.floor = max(core.floor, self.floors[position])
        core.shards.append((position, first, count))

    def _matrix(self, position: int) -> None:
        left = self.members[position].size
        if self.rules.tight:
            for core in self.cores:
                count = min(left, self.room(position, core))
                if count:
                    self._add(position, core, self.members[position].size - left, count)
                    left -= count
        if left:
            self._split_evenly(position, left)

    def _split_evenly(self, position: int, left: int) -> None:
        """Put the last `left` neurons on new cores in shares that differ by one neuron at most."""
        cores = -(-left // max(1, self.room(position, CoreFill())))
        first = self.members[position].size - left
        for number in range(cores):
            count = (left * (number + 1)) // cores - (left * number) // cores
            self.cores.append(CoreFill())
            self._add(position, self.cores[-1], first, count)
            first += count

    def _sum(self, position: int) -> None:
        """Put a single neuron on the core that is lightest with it; on a new one if no other has room."""
        able = [core for core in self.cores if self.room(position, core)]
        if not able:
            self.cores.append(CoreFill())
            able = self.cores[-1:]
        cost = self.members[position].cost
        operations, messages = cost.operations(1), cost.messages_in(1)

        def load_with(core: CoreFill) -> int:
            return self.costs.load(core.used[-1] + operations, core.used[INPUT_AXONS] + messages)

        self._add(position, min(able, key=load_with), 0, 1)

    def _elementwise(self, position: int) -> None:
        """Deal a group out over all cores: equal shares, except where a core has less room."""
        size = self.members[position].size
        rooms = [self.room(position, core) for core in self.cores]
        while sum(rooms) < size:
            self.cores.append(CoreFill())
            rooms.append(max(1, self.room(position, self.cores[-1])))
        shares, first = _equal_shares(rooms, size), 0
        for core, count in zip(self.cores, shares, strict=True):
            if count:
                self._add(position, core, first, count)
                first += count


def _equal_shares(rooms: Sequence[int], size: int) -> list[int]:
    """Shares of at most `rooms` that sum to `size`, the largest as small as can be."""
    low, high = 0, size
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if sum(min(room, middle) for room in rooms) >= size else (middle, high)
    shares = [min(room, high) for room in rooms]
    surplus = sum(shares) - size
    for position in reversed(range(len(shares))):
        if surplus and shares[position] == high:
            shares[position] -= 1
            surplus -= 1
    return shares


def _nameless(member: Member) -> Member:
    """The member with its sources numbered instead of named: what remains decides how it is split."""
    numbers: dict[Source, int] = {}
    for each in member.cost.connections:
        numbers.setdefault(each.source, len(numbers))
    connections = tuple(
        replace(each, source=Source(str(numbers[each.source]))) for each in member.cost.connections
    )
    return replace(member, cost=replace(member.cost, connections=connections))

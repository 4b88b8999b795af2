"""Maps of chips: every core a square, coloured by how much of a resource it uses, by what it holds or sends.

A cell carries one class for each way of colouring, a letter and a level, so that the page switches between them
with style rules alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from loihi_mmfree.ir.graph import Node
from loihi_mmfree.ir.nodes import NeuronGroup, Role
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.connections import HEAD_BLOCK, placement_block
from loihi_mmfree.place.placement import Shard
from loihi_mmfree.place.resources import RESOURCES, UNITS, Costs
from loihi_mmfree.place.traffic import Traffic
from loihi_mmfree.report.summary import CoreSummary, Summary

LEVELS = 10
"""Shades of a scale; a cell that has nothing has none."""
MOST_CORES = 3000
"""A network on more cores is shown by the chip."""

KINDS = (
    "i, f, g projections and MLGRU",
    "o projection and residual",
    "gate, up projections and GLU",
    "down projection and residual",
    "norms and embedding",
    "parts of split rows",
    "head",
)
_RECURRENT, _OUTPUT, _GATED, _DOWN, _NORM, _PART, _HEAD = range(1, len(KINDS) + 1)
_KIND_OF_ROLE = {Role.ML_GRU: _RECURRENT, Role.GLU: _GATED, Role.RELAY: _PART}


@dataclass(frozen=True)
class Colouring:
    """One way to colour the maps.

    Parameters
    ----------
    key : str
        For ids of the page.
    letter : str
        Begins the classes of the cells.
    label : str
        For the button.
    note : str
        What is coloured, in words, and its extreme.
    low, high : str
        What the ends of the scale mean; of a colouring by category, empty.
    categories : tuple of (level, str)
        Of a scale, empty.
    """

    key: str
    letter: str
    label: str
    note: str
    low: str = ""
    high: str = ""
    categories: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Cell:
    """A square of a map, at a column and row of the grid; `target` is the id of the table row that tells
    more, if there is one."""

    column: int
    row: int
    classes: str
    title: str
    target: str


@dataclass(frozen=True)
class Drawing:
    """A grid of cells: the cores of a chip, or the chips of a system.

    Parameters
    ----------
    title : str
    description : str
        The same for people who do not see it.
    columns, rows, places : int
        Of the grid; `places` of them exist.
    cells : tuple of Cell
        What is in use.
    """

    title: str
    description: str
    columns: int
    rows: int
    places: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ChipMap:
    """All maps of a placement.

    Parameters
    ----------
    colourings : tuple of Colouring
    system : Drawing, optional
        The chips; only where there are too many cores to show each.
    chips : tuple of Drawing
        The cores of every chip, or of some of them.
    shown : tuple of int
        The numbers of these chips.
    """

    colourings: tuple[Colouring, ...]
    system: Drawing | None
    chips: tuple[Drawing, ...]
    shown: tuple[int, ...]


def chip_map(
    net: Net, summary: Summary, traffic: Traffic, amount: str = "at most", linked: bool = True
) -> ChipMap:
    """Lay out the maps of a placed network.

    Parameters
    ----------
    net : Net
    summary : Summary
        Of the same network.
    traffic : Traffic
        Its messages.
    amount : str
        What these are, in words.
    linked : bool
        Whether the page has tables that the cells lead to.
    """
    return _Maps(net, summary, traffic, amount, linked).build()


class _Maps:
    def __init__(self, net: Net, summary: Summary, traffic: Traffic, amount: str, linked: bool) -> None:
        self.spec, self.summary, self.traffic = net.placed.chip, summary, traffic
        self.amount, self.linked = amount, linked
        main = _main_shards(net)
        self.kinds = [_kind(net.graph.by_name[shard.node]) for shard in main]
        self.main_shards = [f"{shard.node}[{shard.first}:{shard.end}]" for shard in main]
        self.most = {
            "sent": max((core.sent for core in traffic.cores), default=0.0),
            "received": max((core.received for core in traffic.cores), default=0.0),
        }

    def build(self) -> ChipMap:
        every = tuple(chip.chip for chip in self.summary.chips)
        shown = every if len(self.summary.cores) <= MOST_CORES else self._examples()
        return ChipMap(
            colourings=tuple(self._colourings()),
            system=None if shown == every else self._system(),
            chips=tuple(self._chip(number) for number in shown),
            shown=shown,
        )

    def _examples(self) -> tuple[int, ...]:
        """The first chip, the fullest one and the last."""
        chips = self.summary.chips
        fullest = max(chips, key=lambda each: (each.load, each.cores))
        return tuple(sorted({chips[0].chip, fullest.chip, chips[-1].chip}))

    def _colourings(self) -> list[Colouring]:
        """The ways to colour, in the order of the levels that `_core_levels` returns."""
        fullest = self.summary.fullest_cores[0]
        used = tuple((kind, name) for kind, name in enumerate(KINDS, start=1) if kind in self.kinds)
        note = f"the resource that a core uses most of; {_place(fullest)} is fullest: {_usage(fullest)}"
        found = [
            Colouring(
                "kind", "a", "what it holds", "each core by what most of its synapses are for", categories=used
            ),
            Colouring("load", "b", "fullest resource", note, "0 %", "100 % of its limit"),
        ]
        letters = iter("cdefghijklmnop")
        for name in RESOURCES:
            most = max(self.summary.cores, key=lambda each: each.usage[name][0])
            note = f"{UNITS[name]}; most on {_place(most)}: {_usage(most, name)}"
            high = f"100 % of {most.usage[name][1]:,}"
            found.append(Colouring(name.replace("_", "-"), next(letters), label(name), note, "0 %", high))
        for name, most_sent in self.most.items():
            note = f"messages {name} in a step {self.amount}, relative to the busiest core"
            found.append(Colouring(name, next(letters), f"messages {name}", note, "0", f"{most_sent:,.0f}"))
        return found

    def _core_levels(self, position: int) -> tuple[int, ...]:
        core, moved = self.summary.cores[position], self.traffic.cores[position]
        return (
            self.kinds[position],
            level(core.load),
            *(level(used / limit) for used, limit in (core.usage[name] for name in RESOURCES)),
            level(moved.sent / (self.most["sent"] or 1)),
            level(moved.received / (self.most["received"] or 1)),
        )

    def _chip(self, number: int) -> Drawing:
        columns = self.spec.mesh_columns.value
        held = [position for position, core in enumerate(self.summary.cores) if core.chip == number]
        cells = []
        for position in held:
            core = self.summary.cores[position]
            share = f"{core.load:.0%} of {label(core.fullest)}"
            title = f"core {core.core}: {self.main_shards[position]}; {share}"
            classes = _classes(self._core_levels(position))
            cells.append(
                Cell(
                    core.core % columns, core.core // columns, classes, title, core_id(core) if self.linked else ""
                )
            )
        blocks = next(chip.blocks for chip in self.summary.chips if chip.chip == number)
        places = self.spec.cores_per_chip.value
        return Drawing(
            title=f"chip {number}: {_span(blocks)}",
            description=f"{len(held)} of {places} cores in use, holding {', '.join(blocks)}",
            columns=columns,
            rows=self.spec.mesh_rows.value,
            places=places,
            cells=tuple(cells),
        )

    def _system(self) -> Drawing:
        """Chips along the snake in which they are numbered; each as its fullest core."""
        columns, last = self.spec.chip_columns.value, self.summary.chips[-1].chip
        rows = last // columns + 1
        positions: dict[int, list[int]] = {}
        for position, core in enumerate(self.summary.cores):
            positions.setdefault(core.chip, []).append(position)
        cells = []
        for chip in self.summary.chips:
            levels = [self._core_levels(position) for position in positions[chip.chip]]
            highest = [max(each) for each in zip(*levels, strict=True)]
            kinds = [self.kinds[position] for position in positions[chip.chip]]
            highest[0] = max(sorted(set(kinds)), key=kinds.count)
            row, along = divmod(chip.chip, columns)
            column = along if row % 2 == 0 else columns - 1 - along
            title = f"chip {chip.chip}: {_span(chip.blocks)}; {chip.cores} cores, fullest at {chip.load:.0%}"
            cells.append(Cell(column, row, _classes(highest), title, f"chip-{chip.chip}" if self.linked else ""))
        return Drawing(
            title=f"{self.summary.chips_used} of {self.spec.chips.value} chips, each coloured as its fullest core",
            description="rows of the system's grid that are in use",
            columns=columns,
            rows=rows,
            places=min(rows * columns, self.spec.chips.value),
            cells=tuple(cells),
        )


def level(share: float) -> int:
    """Return the shade of a share of the limit: 0 for nothing, else 1 to LEVELS."""
    return min(LEVELS, max(0, ceil(LEVELS * share)))


def label(resource: str) -> str:
    """Return a resource's name for people."""
    return resource.replace("_bytes", "").replace("_", " ").replace("synapse", "synapse memory")


def core_id(core: CoreSummary) -> str:
    """Return the id of a core's row in the tables."""
    return f"core-{core.chip}-{core.core}"


def _main_shards(net: Net) -> list[Shard]:
    """The shard of each core at which most synapses end."""
    costs = Costs(net.graph, net.placed.chip, net.placed.placement.weight_bits)
    return [
        max(core.shards, key=lambda shard: costs.group(shard.node).operations(shard.count))
        for core in net.placed.placement.cores
    ]


def _kind(node: Node) -> int:
    """A level from 1, as KINDS lists them."""
    if placement_block(node) == HEAD_BLOCK or not isinstance(node, NeuronGroup):
        return _HEAD
    if node.role is Role.RESIDUAL:
        return _DOWN if ".mlp." in node.name else _OUTPUT
    return _KIND_OF_ROLE.get(node.role, _NORM)


def _classes(levels: Sequence[int]) -> str:
    return " ".join(f"{letter}{each}" for letter, each in zip("abcdefghijklmnop", levels, strict=False) if each)


def _place(core: CoreSummary) -> str:
    return f"chip {core.chip} core {core.core}"


def _usage(core: CoreSummary, resource: str | None = None) -> str:
    name = resource or core.fullest
    used, limit = core.usage[name]
    return f"{used:,} of {limit:,} {UNITS[name]} ({used / limit:.0%})"


def _span(blocks: Sequence[str]) -> str:
    return blocks[0] if len(blocks) == 1 else f"{blocks[0]} to {blocks[-1]}"

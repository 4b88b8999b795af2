"""The network as a core in RTL: cycles, by the formula of its schedule, and time at a clock that is assumed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from loihi_mmfree.cost.quantity import Quantity
from loihi_mmfree.errors import DoesNotFitError
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.rtl.build import compile_programs
from loihi_mmfree.rtl.parameters import Size
from loihi_mmfree.rtl.timing import Work, timing

SIZES = (Size(64, 8), Size(128, 16), Size(256, 32))
"""Cores that a report shows: as many weights a cycle as published ones, half, and twice as many."""
ASSUMED_MEGAHERTZ = 300
"""The clock of the published accelerator beside it (ternip, Alveo U250); no tool has closed it for this core."""
FORMULA = "formula held against RTL simulation"


@dataclass(frozen=True)
class CoreCycles:
    """A core, and what a token takes on it.

    Parameters
    ----------
    size : Size
    cycles : Quantity
        A token, from the row of its embedding to its last logit.
    blocks_cycles : Quantity
        Without final norm and head.
    utilisation : Quantity
        Share of `blocks_cycles` in which weights are taken.
    tokens_per_s : Quantity
        At the assumed clock.
    """

    size: Size
    cycles: Quantity
    blocks_cycles: Quantity
    utilisation: Quantity
    tokens_per_s: Quantity

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        results = {name: each.to_dict() for name, each in vars(self).items() if isinstance(each, Quantity)}
        return {**asdict(self.size), **results}


def core_cycles(graph: Graph) -> tuple[CoreCycles, ...]:
    """Return what the network takes on each of `SIZES`; a core that it does not go onto is left out."""
    found = []
    for size in SIZES:
        try:
            time = timing(Work.of(compile_programs(graph, size)))
        except DoesNotFitError:
            continue
        inputs = {**asdict(size), "counted": "no stream held back, one token at a time"}
        clock = {**inputs, "assumed": f"{ASSUMED_MEGAHERTZ} MHz, which no tool has closed for this core"}
        found.append(
            CoreCycles(
                size,
                Quantity(time.cycles, "cycles", FORMULA, inputs),
                Quantity(time.blocks_cycles, "cycles", FORMULA, inputs),
                Quantity(time.utilisation, "1", FORMULA, inputs),
                Quantity(1e6 * ASSUMED_MEGAHERTZ / time.cycles, "tokens/s", "assumed", clock),
            )
        )
    return tuple(found)

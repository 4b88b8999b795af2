"""What weight bits, chips, activation bits and zeros do to throughput and energy, one change at a time.

Weight bits and chips can be chosen, with the same logits. Narrower activations and zeros that are put in would be
another network, compiled or trained for them: they stand beside the choices and take no part in the Pareto front.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loihi_mmfree.activity.counts import Activity, group_ports
from loihi_mmfree.cost.model import PHASES, Phase, Prediction, predict
from loihi_mmfree.cost.parameters import ModelParameters
from loihi_mmfree.cost.workload import count_workload
from loihi_mmfree.errors import DoesNotFitError
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup, Role
from loihi_mmfree.loihi2.hardware import ChipSpec
from loihi_mmfree.place.placement import Placement
from loihi_mmfree.place.placer import Request, place

ZERO_SHARES = (0.25, 0.5, 0.75, 0.9)
FEWER_BITS = (1, 2, 4)
CHIP_FACTORS = (2, 4)
RESULT_UNITS = {"tokens_per_s": "tokens/s", "millijoules": "mJ"}


@dataclass(frozen=True)
class Variation:
    """One variation of a compiled network; of each list, what is not named stays as compiled.

    Parameters
    ----------
    what : str
        For people: what differs.
    weight_bits : int, optional
    chips : int, optional
        Spread over at most so many, for the shortest step.
    activity : Activity, optional
    hypothetical : bool
        It would compute something else: zeros are put in, or bits left out, of a network nobody has made.
    """

    what: str
    weight_bits: int | None = None
    chips: int | None = None
    activity: Activity | None = None
    hypothetical: bool = False


@dataclass(frozen=True)
class SweepRow:
    """Modelled results of one variation.

    Parameters
    ----------
    what : str
    weight_bits, chips, cores : int
    tokens_per_s, millijoules : dict phase -> float
        A token; phases are prefill and generate.
    best : dict phase -> bool
        Whether no other choice is faster and also takes less energy in that phase (the Pareto front).
    hypothetical : bool
        See `Variation`; such a row is not among those that are best.
    """

    what: str
    weight_bits: int
    chips: int
    cores: int
    tokens_per_s: dict[str, float]
    millijoules: dict[str, float]
    best: dict[str, bool]
    hypothetical: bool = False

    @property
    def label(self) -> str:
        """What differs, and whether anybody could choose it."""
        return f"{self.what} (hypothetical)" if self.hypothetical else self.what

    def to_dict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return a JSON-ready description; `inputs` are those of the results."""
        about = {**inputs, "variation": self.what}
        return {**dataclasses.asdict(self), "source": "modelled", "inputs": about, "result_units": RESULT_UNITS}


def variations_of(graph: Graph, placement: Placement, activity: Activity) -> Iterator[Variation]:
    """Give the variations of a network: as compiled first.

    Fewer activation bits are counted from recorded histograms: with d bits less, half rounded up, a value of
    -2**(d-1) to 2**(d-1) - 1 becomes zero.
    """
    yield Variation("as compiled")
    other = 2 if placement.weight_bits == 8 else 8
    yield Variation(f"{other}-bit weights", weight_bits=other)
    for factor in CHIP_FACTORS:
        yield Variation("spread over more chips", chips=placement.chips_used * factor)
    for share in ZERO_SHARES:
        zeros = _with_projection_zeros(graph, activity, share)
        yield Variation(f"{share:.0%} zeros at projections", activity=zeros, hypothetical=True)
    if activity.histograms:
        for bits in FEWER_BITS:
            name = f"activations {bits} bit{'s' if bits > 1 else ''} narrower"
            yield Variation(name, activity=_narrower(graph, activity, bits), hypothetical=True)


def sweep(
    graph: Graph,
    placement: Placement,
    system: ChipSpec,
    activity: Activity,
    parameters: ModelParameters,
    variations: Sequence[Variation] | None = None,
) -> tuple[SweepRow, ...]:
    """Return the modelled results of every variation that fits the system.

    Variations of chips are named by the chips that they use, and left out where others use as many.
    """
    rows: list[SweepRow] = []
    numbers_of_chips = {placement.chips_used}
    for each in variations or tuple(variations_of(graph, placement, activity)):
        placed = _placed(graph, placement, system, each)
        if placed is None:
            continue
        if each.chips is not None:
            if placed.chips_used in numbers_of_chips:
                continue
            numbers_of_chips.add(placed.chips_used)
            each = dataclasses.replace(each, what=f"spread over {placed.chips_used} chips")
        workload = count_workload(graph, placed, each.activity or activity, system)
        rows.append(_row(each, placed, predict(workload, parameters)))
    return _with_fronts(rows)


def _row(variation: Variation, placed: Placement, prediction: Prediction) -> SweepRow:
    results: dict[str, Phase] = {phase: getattr(prediction, phase) for phase in PHASES}
    return SweepRow(
        what=variation.what,
        weight_bits=placed.weight_bits,
        chips=placed.chips_used,
        cores=placed.cores_used,
        tokens_per_s={phase: result.tokens_per_s for phase, result in results.items()},
        millijoules={phase: result.millijoules_per_token for phase, result in results.items()},
        best=dict.fromkeys(PHASES, False),
        hypothetical=variation.hypothetical,
    )


def _with_fronts(rows: Sequence[SweepRow]) -> tuple[SweepRow, ...]:
    """Mark the best choices of each phase."""
    choices = [number for number, row in enumerate(rows) if not row.hypothetical]
    best: list[dict[str, bool]] = [dict(row.best) for row in rows]
    for phase in PHASES:
        front = pareto([(rows[number].tokens_per_s[phase], rows[number].millijoules[phase]) for number in choices])
        for number, on_front in zip(choices, front, strict=True):
            best[number][phase] = on_front
    return tuple(dataclasses.replace(row, best=each) for row, each in zip(rows, best, strict=True))


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Tell for each (throughput, energy) whether no other point is as good in both and better in one."""
    return [
        not any(other[0] >= point[0] and other[1] <= point[1] and other != point for other in points)
        for point in points
    ]


def _placed(graph: Graph, placement: Placement, system: ChipSpec, variation: Variation) -> Placement | None:
    if variation.weight_bits is None and variation.chips is None:
        return placement
    if variation.chips is not None and variation.chips > system.chips.value:
        return None
    request = Request(
        weight_bits=variation.weight_bits or placement.weight_bits,
        head=placement.head,
        objective=placement.objective if variation.chips is None else "speed",
        chips=variation.chips,
        straddle=variation.chips is not None,
    )
    try:
        return place(graph, system, request)
    except DoesNotFitError:
        return None


def _projection_inputs(graph: Graph) -> dict[str, int]:
    nodes = graph.by_name
    return {
        str(source): size
        for source, size in group_ports(graph).items()
        if isinstance(node := nodes[source.node], NeuronGroup) and node.role is Role.SCALE
    }


def _with_projection_zeros(graph: Graph, activity: Activity, share: float) -> Activity:
    inputs = _projection_inputs(graph)
    limited = {key: round(activity.tokens * size * (1 - share)) for key, size in inputs.items()}
    messages = {key: min(count, limited.get(key, count)) for key, count in activity.messages.items()}
    return activity.with_messages(messages, f"{activity.origin}; {share:.0%} zeros at projections")


def _narrower(graph: Graph, activity: Activity, bits: int) -> Activity:
    inputs = _projection_inputs(graph)
    messages = {
        key: sum(activity.histograms[key][bits:]) if key in inputs else count
        for key, count in activity.messages.items()
    }
    return activity.with_messages(messages, f"{activity.origin}; activations {bits} bits narrower")

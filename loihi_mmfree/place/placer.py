"""Placing a network: the fewest chips, or the shortest step on those given; or a refusal that says what helps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

from loihi_mmfree.errors import DoesNotFitError
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.loihi2.hardware import HALA_POINT, KAPOHO_POINT, ChipSpec
from loihi_mmfree.place.check import CHIPS, STRADDLING, TWO_BIT_WEIGHTS, ExceededLimit
from loihi_mmfree.place.layout import Request, attempt, require_sensible
from loihi_mmfree.place.placement import Placement


def place(graph: Graph, spec: ChipSpec, request: Request) -> Placement:
    """Place a network on the cores of a system.

    Parameters
    ----------
    graph : Graph
        Lowered and scheduled.
    spec : ChipSpec
    request : Request

    Returns
    -------
    Placement
        The same for the same graph, system and request.

    Raises
    ------
    DoesNotFitError
        With every limit that is exceeded, and the options with which it fits, if there are any.
    UsageError
        The request is not one that can be met at all.
    """
    require_sensible(request, spec)
    placement, exceeded = attempt(graph, spec, request)
    if placement is None:
        raise DoesNotFitError(_refusal(graph, spec, request, exceeded))
    return placement


def _refusal(graph: Graph, spec: ChipSpec, request: Request, exceeded: list[ExceededLimit]) -> str:
    """The message of a refusal: every limit exceeded, and options under which the network was seen to fit."""
    remedy = _remedy(graph, spec, request, exceeded)
    lines = [f"  {replace(each, option=remedy or each.option)}" for each in exceeded]
    advice = (
        f"It fits with {remedy}."
        if remedy
        else "No option makes it fit; a system that has more is described in a TOML file (`chip=FILE`)."
    )
    return "\n".join([f"the network does not fit {spec.name}; limits exceeded: {len(exceeded)}", *lines, advice])


def _remedy(graph: Graph, spec: ChipSpec, request: Request, exceeded: list[ExceededLimit]) -> str | None:
    """The fewest options, those that cost least first, with which a placement is found."""
    changes = _changes(spec, request, exceeded)
    for number in (1, 2):
        for chosen in combinations(changes, number):
            if len({each.kind for each in chosen}) == number and _helps(graph, spec, request, chosen):
                return " and ".join(each.option for each in chosen)
    return None


def _helps(graph: Graph, spec: ChipSpec, request: Request, chosen: Iterable[_Change]) -> bool:
    for each in chosen:
        spec, request = each.apply(spec, request)
    placement, _ = attempt(graph, spec, request)
    return placement is not None


@dataclass(frozen=True)
class _Change:
    """One setting, as a message names it, and what it makes of a system and a request."""

    kind: str
    option: str
    apply: Callable[[ChipSpec, Request], tuple[ChipSpec, Request]]


def _changes(spec: ChipSpec, request: Request, exceeded: list[ExceededLimit]) -> list[_Change]:
    changes: list[_Change] = []
    if request.weight_bits > 2:
        changes.append(_Change("weights", TWO_BIT_WEIGHTS, lambda s, r: (s, replace(r, weight_bits=2))))
    if request.head == "chip":
        changes.append(_Change("head", '`head="host"`', lambda s, r: (s, replace(r, head="host"))))
    if request.chips is not None:
        needed = max((each.used for each in exceeded if each.resource == CHIPS), default=spec.chips.value)
        number = min(needed, spec.chips.value)
        changes.append(_Change("chips", f"`chips={number}`", lambda s, r: (s, replace(r, chips=number))))
    if not request.straddle:
        changes.append(_Change("straddle", STRADDLING, lambda s, r: (s, replace(r, straddle=True))))
    for other in (KAPOHO_POINT, HALA_POINT):
        if replace(other, name=spec.name) != spec:
            changes.append(_Change("system", f'`chip="{other.name}"`', partial(_move, other)))
    return changes


def _move(system: ChipSpec, _: ChipSpec, request: Request) -> tuple[ChipSpec, Request]:
    return system, request

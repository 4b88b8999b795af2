"""What a network takes up at least, by its shape alone: refused before a weight is read, if that is too much.

A bound from below, so that nothing is refused that fits: every weight takes its bits in the synapse memory of
some core, and a core holds neurons of one block only. Headers of axons, neurons, programs, delays and routing come
on top; what they exceed, :mod:`.placer` says after lowering.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from loihi_mmfree.checkpoint.config import ModelConfig
from loihi_mmfree.checkpoint.tensors import HEAD, expected_shapes, is_projection
from loihi_mmfree.errors import DoesNotFitError
from loihi_mmfree.loihi2.hardware import ChipSpec
from loihi_mmfree.place.check import (
    ANOTHER_SYSTEM,
    CHIPS,
    CORES,
    STRADDLING,
    TWO_BIT_WEIGHTS,
    ExceededLimit,
    exceeded_widths,
)
from loihi_mmfree.place.layout import Request, require_sensible


def require_room(model: ModelConfig, spec: ChipSpec, request: Request) -> None:
    """Refuse a network whose weights alone are too many for a system.

    Parameters
    ----------
    model : ModelConfig
    spec : ChipSpec
    request : Request

    Raises
    ------
    DoesNotFitError
        With every limit that is exceeded, and the option that would make room for the weights, if there is one.
    UsageError
        The request is not one that can be met at all.
    """
    require_sensible(request, spec)
    found = [*exceeded_widths(spec, request.weight_bits), *_exceeded(model, spec, request)]
    if not found:
        return
    option = _option(model, spec, request)
    lines = [f"  {replace(each, option=option or each.option)}" for each in found]
    raise DoesNotFitError(
        "\n".join(
            [
                f"the network does not fit {spec.name}; limits exceeded: {len(found)}",
                *lines,
                "Counted from the shape of the model: its weights alone, at least. Nothing was calibrated.",
            ]
        )
    )


def _exceeded(model: ModelConfig, spec: ChipSpec, request: Request) -> Iterator[ExceededLimit]:
    """Yield what is exceeded for certain."""
    block, head = cores_at_least(model, spec, request)
    capacity, layers = spec.cores_per_chip.value, model.num_hidden_layers
    chips = -(-(layers * block + head) // capacity)
    if not request.straddle:
        if block > capacity:
            yield ExceededLimit(f"each of {layers} blocks", CORES, block, capacity, STRADDLING)
            return
        chips = max(chips, -(-layers // (capacity // block)))
    limit = request.chips or spec.chips.value
    if chips > limit:
        yield ExceededLimit(spec.name, CHIPS, chips, limit, ANOTHER_SYSTEM)


def cores_at_least(model: ModelConfig, spec: ChipSpec, request: Request) -> tuple[int, int]:
    """Return the cores that the weights of one block, and those of the head, fill at least."""
    shapes = expected_shapes(model)
    block = sum(
        math.prod(shape)
        for name, shape in shapes.items()
        if name.startswith("model.layers.0.") and is_projection(name)
    )
    head = math.prod(shapes.get(HEAD, (model.vocab_size, model.hidden_size))) if request.head == "chip" else 0
    held = spec.synapse_memory_bytes.value * 8 // request.weight_bits
    return -(-block // held), -(-head // held)


def _option(model: ModelConfig, spec: ChipSpec, request: Request) -> str | None:
    """The fewest options with which the weights find room."""
    dense, straddling = {"weight_bits": 2}, {"straddle": True}
    for option, changes in (
        (TWO_BIT_WEIGHTS, dense),
        (STRADDLING, straddling),
        (f"{TWO_BIT_WEIGHTS} and {STRADDLING}", dense | straddling),
    ):
        changed = replace(request, **changes)
        if not exceeded_widths(spec, changed.weight_bits) and not [*_exceeded(model, spec, changed)]:
            return option
    return None

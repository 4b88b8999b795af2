"""A refusal from the shape of a model alone: never of what fits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from loihi_mmfree.checkpoint import ModelConfig
from loihi_mmfree.checkpoint.config import PUBLISHED_CONFIGS
from loihi_mmfree.errors import DoesNotFitError
from loihi_mmfree.loihi2.hardware import LOIHI2, ChipSpec
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.layout import Request, attempt
from loihi_mmfree.place.lower_bound import cores_at_least, require_room


def with_limits(**limits: int) -> ChipSpec:
    changed = {name: replace(getattr(LOIHI2, name), value=value) for name, value in limits.items()}
    return replace(LOIHI2, **changed)


def model_of(net: Net) -> ModelConfig:
    return ModelConfig.from_dict({"model_type": "hgrn_bit", **net.manifest["model"]})


@pytest.mark.parametrize("memory", [6144, 16384, 131072])
@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("head", ["host", "chip"])
@pytest.mark.parametrize("straddle", [False, True])
def test_a_network_that_was_placed_is_never_refused(
    tiny_net: Net, memory: int, bits: int, head: str, straddle: bool
) -> None:
    request = Request(bits, head, straddle=straddle)
    placement, _ = attempt(tiny_net.graph, with_limits(synapse_memory_bytes=memory), request)
    assert placement is not None
    chips = replace(request, chips=placement.chips_used)
    require_room(model_of(tiny_net), with_limits(synapse_memory_bytes=memory), chips)


@pytest.mark.parametrize(("size", "bits", "cores"), [("370M", 8, 98), ("1.3B", 8, 392), ("2.7B", 2, 152)])
def test_the_bound_is_weights_over_memory(size: str, bits: int, cores: int) -> None:
    model = PUBLISHED_CONFIGS[size]
    weights = 4 * model.hidden_size**2 + 3 * model.hidden_size * model.intermediate_size
    assert cores_at_least(model, LOIHI2, Request(bits)) == (cores, 0)
    assert cores == -(-weights * bits // 8 // 131072)


def test_blocks_of_the_placement_hold_no_fewer_cores(tiny_net: Net) -> None:
    placement = tiny_net.placed.placement
    held = Counter(".".join(core.shards[-1].node.split(".")[:2]) for core in placement.cores)
    assert min(held.values()) >= cores_at_least(model_of(tiny_net), LOIHI2, Request(8))[0]


def test_chips_are_counted_with_blocks_kept_whole() -> None:
    with pytest.raises(DoesNotFitError, match=r"loihi2: 24 chips, at most 23"):
        require_room(PUBLISHED_CONFIGS["370M"], LOIHI2, Request(8, chips=23))
    require_room(PUBLISHED_CONFIGS["370M"], LOIHI2, Request(8, chips=24))
    require_room(PUBLISHED_CONFIGS["370M"], LOIHI2, Request(8, chips=20, straddle=True))


@pytest.mark.parametrize(
    ("size", "option"), [("1.3B", "`weight_bits=2`"), ("2.7B", "`straddle=True`")]
)  # fmt: skip
def test_the_refusal_names_the_option_that_makes_room(size: str, option: str) -> None:
    with pytest.raises(DoesNotFitError, match=option):
        require_room(PUBLISHED_CONFIGS[size], LOIHI2, Request(8))

"""A placement as data: there and back, and what a stranger's file may not hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loihi_mmfree.place.placement import Core, Placement, Shard

PLACEMENT = Placement(
    system="loihi2",
    weight_bits=8,
    head="host",
    objective="chips",
    cores=(
        Core(0, 0, (Shard("embeddings", 0, 4), Shard("layers.0.mlp.glu", 0, 3))),
        Core(0, 5, (Shard("layers.0.mlp.glu", 3, 3),)),
        Core(2, 0, (Shard("layers.1.mlp.glu", 0, 6),)),
    ),
)


def test_it_survives_json() -> None:
    assert Placement.from_dict(json.loads(json.dumps(PLACEMENT.to_dict()))) == PLACEMENT


def test_it_counts_the_chips_and_cores_that_hold_anything() -> None:
    assert (PLACEMENT.chips_used, PLACEMENT.cores_used) == (2, 3)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["system"], "", "system must be a name"),
        (["weight_bits"], True, "weight_bits must be a whole number of at least 1"),
        (["head"], "board", "head must be one of host, chip"),
        (["objective"], None, "objective must be one of chips, speed"),
        (["cores"], {}, "cores must be a list"),
        (["cores", 0], [], "a core has exactly the fields chip, core, shards"),
        (["cores", 0, "chip"], -1, "chip must be a whole number of at least 0"),
        (["cores", 0, "shards"], [], "core 0 of chip 0 holds nothing"),
        (["cores", 0, "shards", 0], ["embeddings", 0], r"a shard is \[node, first, count\]"),
        (["cores", 0, "shards", 0, 0], 7, "shard node must be a name"),
        (["cores", 0, "shards", 0, 1], 1.5, "shard first must be a whole number"),
        (["cores", 0, "shards", 0, 2], 0, "shard count must be a whole number of at least 1"),
        (["cores", 1, "core"], 0, "sorted by chip and core, each listed once"),
        (["more"], 1, "a placement has exactly the fields"),
    ],
)
def test_what_is_no_placement_is_refused(path: list[Any], value: Any, words: str) -> None:
    data = json.loads(json.dumps(PLACEMENT.to_dict()))
    target = data
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    with pytest.raises(ValueError, match=words):
        Placement.from_dict(data)


@pytest.mark.parametrize("data", [None, [], "placement", 3, {}])
def test_what_is_not_even_a_table_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="not a placement"):
        Placement.from_dict(data)

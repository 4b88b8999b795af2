"""The formula of cycles is the simulation's count, and a network's depth can be varied in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loihi_mmfree.errors import UsageError
from loihi_mmfree.rtl.build import build
from loihi_mmfree.rtl.parameters import Size
from loihi_mmfree.rtl.timing import Work, timing

pytest.importorskip("amaranth")


@pytest.mark.parametrize("name", ["small", "uneven", "split"])
def test_the_formula_counts_what_the_simulation_counts(networks: Any, name: str, ids: np.ndarray) -> None:
    graph = networks.graph(name)
    row = graph.tensors["tokens.table"][ids[0]].astype(np.int64)
    with networks.simulated(name) as core:
        found = core.token(row, fresh=True).cycles
    assert timing(Work.of(networks.images[name])).cycles == found


def test_a_network_with_more_blocks_is_the_same_work_repeated(make_checkpoint: Any, lower_checkpoint: Any) -> None:
    def work(layers: int) -> Work:
        checkpoint = make_checkpoint(num_hidden_layers=layers, hidden_size=40, intermediate_size=72)
        return Work.of(build(lower_checkpoint(checkpoint).graph, Size(32, 4)))

    one, three = work(1), work(3)
    repeated = one.repeated(3)
    assert [(each.rows, each.words, each.after) for each in repeated.products] == [
        (each.rows, each.words, each.after) for each in three.products
    ]
    assert [(each.neurons, each.wait) for each in repeated.groups] == [
        (each.neurons, each.wait) for each in three.groups
    ]
    with pytest.raises(UsageError, match="only the work of one block can be repeated, found 3 blocks"):
        three.repeated(2)

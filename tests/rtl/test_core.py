"""The core runs whole networks as the engine does: every message, every sum, every logit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth")

from loihi_mmfree.activity.observer import Observer
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.rtl.simulator.process import Stalls
from loihi_mmfree.sim.engine.specification import Engine

NETWORKS = ("small", "uneven", "split")


def rows(graph: Graph, ids: np.ndarray) -> np.ndarray:
    return graph.tensors["tokens.table"][ids].astype(np.int64)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_message_and_every_sum_is_the_engines(networks: Any, name: str, ids: np.ndarray) -> None:
    graph, image = networks.graph(name), networks.images[name]
    expected: dict[Source, np.ndarray] = {}
    engine = Engine(
        graph, strict=True, observer=Observer(values=lambda source, value: expected.update({source: value}))
    )
    logits = engine.process(ids)
    with networks.simulated(name) as core:
        for token, row in enumerate(rows(graph, ids)):
            found = core.token(row, fresh=token == 0, watched=True)
            for number, values in found.watched.sent.items():
                source = image.sends[number]
                np.testing.assert_array_equal(values, expected[source][token], err_msg=str(source))
            for product, sums in zip(image.schedule.products, found.watched.summed, strict=False):
                np.testing.assert_array_equal(sums, expected[product.synapse.out()][token], err_msg=str(product))
            np.testing.assert_array_equal(found.logits, logits[token])
    assert {source.node for source in image.sends.values()} == {
        node.name for node in graph if type(node).__name__ == "NeuronGroup"
    }
    assert found.saturations == engine.counters.saturations


@pytest.mark.parametrize("name", NETWORKS)
def test_stalls_on_every_stream_change_no_logit(networks: Any, name: str, ids: np.ndarray) -> None:
    graph = networks.graph(name)
    expected = Engine(graph).process(ids)
    with networks.simulated(name, Stalls(permille=400, seed=3)) as core:
        found = [core.token(row, fresh=token == 0).logits for token, row in enumerate(rows(graph, ids))]
    np.testing.assert_array_equal(found, expected)


def test_a_fresh_token_forgets_the_sequence_before(networks: Any, ids: np.ndarray) -> None:
    graph = networks.graph("small")
    expected = np.concatenate([Engine(graph).process(each) for each in (ids, ids[::-1])])
    with networks.simulated("small") as core:
        found = [
            core.token(row, fresh=token == 0).logits
            for prompt in (ids, ids[::-1])
            for token, row in enumerate(rows(graph, prompt))
        ]
    np.testing.assert_array_equal(found, expected)

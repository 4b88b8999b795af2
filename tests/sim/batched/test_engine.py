"""The batched engine gives, for every sequence of a batch, every bit that the specification gives for it alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from loihi_mmfree.activity.observer import Observer
from loihi_mmfree.errors import BackendUnavailableError, UsageError
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.batched.engine import BatchedEngine, BatchLogits, open_device
from loihi_mmfree.sim.engine.specification import Engine

CPU = torch.device("cpu")
VOCABULARY = 512


def ids_of(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCABULARY, size=length)


def alone(graph: Graph, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The logits of every sequence, as the specification reads it by itself."""
    engine, found = Engine(graph, strict=True), []
    for ids in sequences:
        engine.reset()
        found.append(engine.process(ids) if len(ids) else np.zeros((0, VOCABULARY), dtype=np.int32))
    return found


def together(engine: BatchedEngine, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The logits of every sequence, read in one batch, and put where the engine says they belong."""
    found = [np.full((len(ids), VOCABULARY), 7, dtype=np.int32) for ids in sequences]

    def take(logits: BatchLogits) -> None:
        for row, sequence, position in zip(logits.values, logits.sequences, logits.positions, strict=True):
            found[sequence][position] = row

    engine.begin(len(sequences))
    last = engine.read_batch(sequences, take)
    for ids, logits, end in zip(sequences, found, last, strict=True):
        np.testing.assert_array_equal(end, logits[-1] if len(ids) else np.zeros(VOCABULARY))
    return found


@pytest.fixture(scope="module")
def engine(tiny_net: Net) -> BatchedEngine:
    return BatchedEngine(tiny_net.graph, CPU)


@pytest.mark.parametrize("rows", [5, 64, 1000])
def test_a_ragged_batch_in_pieces_of_any_size(tiny_net: Net, rows: int) -> None:
    sequences = [ids_of(length, seed=length) for length in (17, 1, 0, 40, 3)]
    engine = BatchedEngine(tiny_net.graph, CPU, rows=rows)
    for found, expected in zip(together(engine, sequences), alone(tiny_net.graph, sequences), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_saturations_are_counted_for_every_token_once(tiny_net: Net) -> None:
    sequences = [ids_of(200, seed=1), ids_of(90, seed=2)]
    engine, specification = BatchedEngine(tiny_net.graph, CPU), Engine(tiny_net.graph, strict=True)
    together(engine, sequences)
    for ids in sequences:
        specification.reset()
        specification.process(ids)
    assert engine.counters == specification.counters
    assert engine.steps == 290


def test_a_sequence_goes_on_where_it_was_and_reset_forgets(engine: BatchedEngine, tiny_net: Net) -> None:
    (expected,) = alone(tiny_net.graph, [ids_of(30)])
    engine.reset()
    parts = [engine.process(part) for part in np.split(ids_of(30), [9, 10, 22])]
    np.testing.assert_array_equal(np.concatenate(parts), expected)
    engine.reset()
    np.testing.assert_array_equal(engine.process(ids_of(5)), expected[:5])


def test_sequences_of_a_batch_go_on_token_by_token_also_if_some_wait(engine: BatchedEngine, tiny_net: Net) -> None:
    sequences = [ids_of(6, seed=5), ids_of(4, seed=6)]
    expected = alone(tiny_net.graph, sequences)
    engine.begin(2)
    nothing = np.zeros(0, dtype=np.int64)
    for step in range(6):
        given = [ids[step : step + 1] if step < len(ids) else nothing for ids in sequences]
        last = engine.read_batch(given)
        for ids, logits, end in zip(sequences, expected, last, strict=True):
            if step < len(ids):
                np.testing.assert_array_equal(end, logits[step])


def test_the_last_logits_alone_are_those_of_all(engine: BatchedEngine) -> None:
    engine.reset()
    everything = engine.process(ids_of(21))
    engine.reset()
    np.testing.assert_array_equal(engine.read(ids_of(21)), everything[-1])


def test_what_it_does_not_show_is_refused(tiny_net: Net) -> None:
    with pytest.raises(UsageError, match="the torch backend does not show the messages of every token"):
        BatchedEngine(tiny_net.graph, CPU, Observer(counts=lambda *_: None))


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(BackendUnavailableError, match="has no device 'cuda:77' here"):
        open_device("cuda:77")
    with pytest.raises(BackendUnavailableError, match="has no device 'abacus' here"):
        open_device("abacus")


def test_without_triton_a_gpu_cannot_be_used_and_what_can_is_named(
    tiny_net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("loihi_mmfree.sim.batched.kernels")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "loihi_mmfree.sim.batched.compiled", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(BackendUnavailableError, match="compiled by Triton"):
        BatchedEngine(tiny_net.graph, CPU, eager=False)

"""A network that fails says where, ends, and leaves nothing behind."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loihi_mmfree.errors import SimulationError, UsageError
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.lava.network import LavaNetwork
from loihi_mmfree.sim.lava.runtimes.base import NetworkRuntime

IDS = np.array([5, 300, 77])
RUNTIMES = ("inprocess", "stock")


def short_table(graph: Graph) -> Graph:
    """The graph with a sigmoid table that ends too soon."""
    return replace(graph, tensors={**graph.tensors, "tables.sigmoid": graph.tensors["tables.sigmoid"][:1]})


def remains(names: list[str]) -> tuple[int, int, int]:
    """How many OS processes, threads and pieces of shared memory of these names there are."""
    shared = sum(Path("/dev/shm", name).exists() for name in names)
    return len(multiprocessing.active_children()), threading.active_count(), shared


def test_an_error_in_a_node_is_named_and_ends_the_network(tiny_net: Net) -> None:
    with LavaNetwork(short_table(tiny_net.graph)) as network:
        with pytest.raises(
            SimulationError, match=r"layers\.0\.attn\.mlgru \(NeuronGroup\).*a table was read outside"
        ):
            network.process(IDS)
        with pytest.raises(SimulationError, match="has ended"):
            network.process(IDS)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_error_in_a_block_is_named_and_leaves_nothing(
    tiny_net: Net, runtime: str, shared_memory_names: list[str]
) -> None:
    before = remains(shared_memory_names)
    network = LavaNetwork(short_table(tiny_net.graph), "block", runtime)
    with pytest.raises(SimulationError, match=r"layers\.0 \(Block\).*mlgru: a table was read outside"):
        network.process(IDS)
    assert bool(shared_memory_names) == (runtime == "stock")
    assert remains(shared_memory_names) == before


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_ctrl_c_ends_the_network_and_leaves_nothing(
    tiny_net: Net, runtime: str, monkeypatch: pytest.MonkeyPatch, shared_memory_names: list[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = remains(shared_memory_names)
    network = LavaNetwork(tiny_net.graph, "block", runtime)
    monkeypatch.setattr(NetworkRuntime, "receive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        network.process(IDS)
    assert bool(shared_memory_names) == (runtime == "stock")
    assert remains(shared_memory_names) == before


def test_a_closed_network_is_freed_and_the_root_logger_is_as_it_was(tiny_net: Net) -> None:
    handlers = list(logging.getLogger().handlers)
    network = LavaNetwork(tiny_net.graph)
    network.process(IDS[:1])
    process = weakref.ref(network._lava.processes["layers.0.attn.mlgru"])
    network.close()
    network.close()
    del network
    gc.collect()
    assert process() is None
    assert logging.getLogger().handlers == handlers


def test_unknown_granularity_and_runtime_are_usage_errors(tiny_net: Net) -> None:
    with pytest.raises(UsageError, match="granularity: unknown 'layer'; known: operator, block, network"):
        LavaNetwork(tiny_net.graph, "layer")
    with pytest.raises(UsageError, match="runtime: unknown 'threads'; known: inprocess, stock"):
        LavaNetwork(tiny_net.graph, runtime="threads")

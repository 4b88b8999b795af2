"""A network whose rows are too long for a core: split, placed, and the same bits in Lava, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loihi_mmfree.activity.observer import Observer
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.pipeline import compile_checkpoint
from loihi_mmfree.ir.graph import Source
from loihi_mmfree.ir.nodes import NeuronGroup, Role
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.net.artifact import Net, load_net
from loihi_mmfree.place.check import check
from loihi_mmfree.sim.engine.specification import Engine
from loihi_mmfree.sim.lava.network import LavaNetwork

Messages = dict[Source, list[np.ndarray]]
IDS = np.array([1, 17, 300, 4, 5, 99])


@pytest.fixture(scope="module")
def split_net(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Net:
    """mmf-tiny for a chip whose cores have 300 input axons; its rows have 128 and 512 columns."""
    folder = tmp_path_factory.mktemp("split")
    (folder / "few-axons.toml").write_text("input_axons = 300\n")
    config = CompileConfig(chip=str(folder / "few-axons.toml"), calibration_tokens=512)
    return compile_checkpoint(tiny_checkpoint, folder / "net", config)[0]


def test_long_rows_and_long_sums_are_split(split_net: Net) -> None:
    down = [node for node in split_net.graph if node.name.startswith("layers.0.mlp.down_proj.part_")]
    assert [node.columns for node in down if isinstance(node, TernarySynapse)] == [256, 256]
    relays = [node for node in split_net.graph if isinstance(node, NeuronGroup) and node.role is Role.RELAY]
    assert {relay.size for relay in relays} == {1, 128}


def test_every_core_keeps_the_limits_of_its_chip(split_net: Net) -> None:
    placed = split_net.placed
    assert placed.chip.input_axons.value == 300
    assert load_net(split_net.path).graph.chip == placed.chip
    assert check(split_net.graph, placed.chip, placed.placement) == []


def keeper(messages: Messages) -> Callable[[Source, np.ndarray], None]:
    return lambda source, values: messages.setdefault(source, []).append(values)


def test_lava_gives_every_message_of_the_engine(split_net: Net) -> None:
    expected: Messages = {}
    found: Messages = {}
    engine = Engine(split_net.graph, strict=True, observer=Observer(values=keeper(expected)))
    logits = engine.process(IDS)
    with LavaNetwork(split_net.graph, strict=True, observer=Observer(values=keeper(found))) as network:
        lava = network.process(IDS)
    assert np.array_equal(lava, logits)
    assert len(expected) > len(split_net.graph.nodes)
    assert all(np.array_equal(np.concatenate(found[source]), value[0]) for source, value in expected.items())


def test_the_integers_are_those_of_the_network_that_was_not_split(split_net: Net, tiny_checkpoint: Path) -> None:
    config = CompileConfig(calibration_tokens=512)
    whole, _ = compile_checkpoint(tiny_checkpoint, split_net.path.parent / "whole", config)
    expected = Engine(whole.graph).process(IDS)
    assert np.array_equal(Engine(split_net.graph).process(IDS), expected)
    assert split_net.manifest["depth_steps"] > whole.manifest["depth_steps"]

"""When things happen: the depth that the compiler predicts is the one that Lava shows."""

from __future__ import annotations

import numpy as np
import pytest

from loihi_mmfree.ir.graph import Source
from loihi_mmfree.ir.schedule import depth
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.engine.specification import Engine
from loihi_mmfree.sim.lava.graph import SimulationConfig, build
from loihi_mmfree.sim.lava.network import LavaNetwork
from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime

IDS = np.array([5, 300, 77])


def what_the_head_sends(net: Net, ids: np.ndarray, steps: int) -> np.ndarray:
    """What the head sends in each time step of a burst, whether or not anybody expects it, as int32 [steps, V]."""
    lava = build(net.graph, "operator", strict=False)
    head = lava.ports[Source("lm_head")]
    head.flag_external_pipe()
    with InProcessRuntime(lava.source, SimulationConfig()) as runtime:
        for process in lava.scheduled:
            process.schedule.set(np.array([0, len(ids)]))
        sent = []
        for step in range(steps):
            if step < len(ids):
                runtime.send(lava.source.row, net.graph.tensors["tokens.table"][ids[step]].astype(np.int32))
            runtime.begin(1)
            sent.append(runtime.receive(head))
            if lava.depth <= step < lava.depth + len(ids):
                runtime.receive(lava.sink.logits)
            runtime.wait()
    lava.close()
    return np.stack(sent)


def test_logits_leave_depth_steps_after_their_token_entered_and_follow_one_a_step(tiny_net: Net) -> None:
    predicted = depth(tiny_net.graph)
    sent = what_the_head_sends(tiny_net, IDS, predicted + 3)
    assert np.flatnonzero(sent.any(axis=1)).tolist() == [predicted, predicted + 1, predicted + 2]
    np.testing.assert_array_equal(sent[predicted : predicted + 3], Engine(tiny_net.graph).process(IDS))


def test_a_prompt_takes_a_step_for_a_token_and_the_depth_once(tiny_net: Net) -> None:
    with LavaNetwork(tiny_net.graph) as network:
        assert network.depth == depth(tiny_net.graph)
        network.process(IDS)
        assert network.steps == len(IDS) + network.depth


def test_tokens_that_fall_through_take_the_depth_each(tiny_net: Net) -> None:
    with LavaNetwork(tiny_net.graph) as network:
        network.process(IDS[:1])
        network.process(IDS[1:2])
        assert network.steps == 2 * (1 + network.depth)


@pytest.mark.parametrize("granularity", ["block", "network"])
def test_coarse_granularity_takes_a_step_for_a_token(tiny_net: Net, granularity: str) -> None:
    with LavaNetwork(tiny_net.graph, granularity) as network:
        network.process(IDS)
        assert network.steps == len(IDS)

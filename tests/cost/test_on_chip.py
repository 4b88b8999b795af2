"""What tokens cause on the chip: in the mean, exactly what the model prices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loihi_mmfree.activity.counts import Activity, worst_case
from loihi_mmfree.activity.incidents import Incidents
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.cost.on_chip import on_chip_activity
from loihi_mmfree.cost.workload import count_workload
from loihi_mmfree.ir.executor import counting_nodes
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.placer import Request, place
from loihi_mmfree.sim.engine.specification import Engine


@pytest.fixture(scope="module")
def activity(tiny_net: Net) -> Activity:
    """Of the golden ids, with a saturation of the final norm put in, which stands for the head's part."""
    recorder = ActivityRecorder(tiny_net.graph)
    Engine(tiny_net.graph, observer=recorder.observer).read(tiny_net.golden()["ids"].astype(np.int64))
    nodes = counting_nodes(tiny_net.graph)
    incidents = Incidents(nodes, np.array([[1, nodes.index("norm.scale"), 6, 0]], dtype=np.int32))
    return replace(recorder.activity("golden ids"), incidents=incidents)


@pytest.mark.parametrize("head", ["host", "chip"])
@pytest.mark.parametrize("weight_bits", [2, 8])
def test_the_mean_token_is_that_of_the_workload(
    tiny_net: Net, activity: Activity, head: str, weight_bits: int
) -> None:
    graph, system = tiny_net.graph, tiny_net.placed.chip
    placement = place(graph, system, Request(weight_bits=weight_bits, head=head, objective="chips"))
    found = on_chip_activity(graph, placement, activity)
    events = count_workload(graph, placement, activity, system).events
    assert found["messages"].mean() == pytest.approx(events.messages, rel=1e-12)
    assert found["synaptic_operations"].mean() == pytest.approx(events.synaptic_operations, rel=1e-12)
    assert found["saturations"].sum() == (6 if head == "chip" else 0)


def test_every_token_alone_is_the_workload_of_that_token(tiny_net: Net, activity: Activity) -> None:
    graph, placement, system = tiny_net.graph, tiny_net.placed.placement, tiny_net.placed.chip
    found = on_chip_activity(graph, placement, activity)
    token = 3
    alone = {key: int(column[token]) for key, column in activity.columns.items()}
    events = count_workload(graph, placement, Activity(1, alone), system).events
    assert found["messages"][token] == pytest.approx(events.messages, rel=1e-12)
    assert found["synaptic_operations"][token] == pytest.approx(events.synaptic_operations, rel=1e-12)


def test_of_totals_alone_nothing_is_known_by_the_token(tiny_net: Net) -> None:
    assert on_chip_activity(tiny_net.graph, tiny_net.placed.placement, worst_case(tiny_net.graph)) == {}

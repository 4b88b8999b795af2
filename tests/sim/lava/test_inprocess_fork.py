"""Lava in one OS process: what a fork keeps apart in stock Lava is kept apart here, too."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer
from lava.proc.sparse.process import Sparse
from scipy.sparse import csr_matrix
from user_processes import Drawer, Layout, Learner

from loihi_mmfree.sim.lava.runtimes.base import NetworkRuntime
from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime
from loihi_mmfree.sim.lava.runtimes.stock import StockRuntime

pytestmark = pytest.mark.usefixtures("nothing_left")
BOTH = pytest.mark.parametrize("runtime_class", [InProcessRuntime, StockRuntime])
CONFIG = Loihi2SimCfg(select_tag="fixed_pt")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    state = np.random.get_state()
    np.random.seed(7)
    yield
    np.random.set_state(state)


@BOTH
def test_a_process_model_has_its_parameters_for_itself(runtime_class: type[NetworkRuntime]) -> None:
    rule, array, generator = {"rate": 0}, np.zeros(1), np.random.default_rng(5)
    first = Learner(rule, array, generator)
    second = Learner(rule, array, generator)
    received = []
    for learner in (first, second):
        with runtime_class(learner, CONFIG) as runtime:
            runtime.begin(3)
            received.append([runtime.receive(learner.out) for _ in range(3)])
    draws = np.random.default_rng(5).random(3)
    # The two names of one array are one array in the copy as well.
    np.testing.assert_array_equal(received[0], [[step, step, step, draws[step - 1]] for step in (1, 2, 3)])
    np.testing.assert_array_equal(received[1], received[0])
    assert (rule, array[0], generator.random()) == ({"rate": 0}, 0, draws[0])


def test_sparse_weights_of_the_host_stay_as_they_are() -> None:
    weights = csr_matrix(np.array([[2, 4], [0, 6]]))
    sparse = Sparse(weights=weights)
    with InProcessRuntime(sparse, CONFIG) as runtime:
        (builder,) = runtime._executable.proc_builders.values()
        assert builder.vars["weights"].value is not sparse.weights.init
        runtime.run(1)


@BOTH
def test_every_process_draws_from_where_the_host_was(runtime_class: type[NetworkRuntime]) -> None:
    first, second = Drawer(), Drawer()
    np.random.normal()  # Half of a pair: the other half is next.
    state = np.random.get_state()
    expected = [np.random.normal() for _ in range(5)]
    np.random.set_state(state)
    received = []
    for drawer in (first, second):
        with runtime_class(drawer, CONFIG) as runtime:
            runtime.begin(3)
            received.append([runtime.receive(drawer.out) for _ in range(3)])
    for each in received:
        np.testing.assert_array_equal(each, [[expected[0], number] for number in expected[1:4]])
    assert np.random.normal() == expected[0]


def test_two_processes_and_the_host_draw_independently() -> None:
    expected = np.random.RandomState(7).normal(size=4)
    first, second = Drawer(), Drawer()
    with InProcessRuntime(first, CONFIG) as one, InProcessRuntime(second, CONFIG) as two:
        one.begin(3)
        two.begin(3)
        for step in (1, 2, 3):
            assert one.receive(first.out).tolist() == [expected[0], expected[step]]
            assert np.random.normal() == expected[step - 1]
            assert two.receive(second.out).tolist() == [expected[0], expected[step]]


def test_processes_of_one_network_draw_the_same() -> None:
    first, second = Drawer(), Drawer()
    sink = RingBuffer(shape=(2,), buffer=4)  # Connects the two: Lava finds a network by its connections.
    first.out.connect(sink.a_in)
    second.out.connect(sink.a_in)
    with InProcessRuntime(sink, Loihi2SimCfg(select_tag="floating_pt")) as runtime:
        runtime.run(4)
        expected = np.random.RandomState(7).normal(size=5)
        np.testing.assert_array_equal(sink.data.get(), 2 * np.array([[expected[0]] * 4, expected[1:]]))


@BOTH
def test_a_message_is_in_c_order_and_stays_as_it_was_sent(runtime_class: type[NetworkRuntime]) -> None:
    layout = Layout()
    with runtime_class(layout, CONFIG) as runtime:
        runtime.run(1)
        received = runtime.receive(layout.out)
    assert received.flags.c_contiguous
    assert received.flags.writeable
    assert received.tolist() == [[0, 1, 2], [3, 4, 5]]

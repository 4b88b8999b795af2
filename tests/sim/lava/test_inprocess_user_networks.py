"""Lava in one OS process: networks as users build them, several domains, own channels, handlers, threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lava.magma.core.run_conditions import RunContinuous
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.core.sync.domain import SyncDomain
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.io.extractor import VarWire
from lava.proc.lif.process import LIF
from runtime_processes import Adder, Counter, Culprit
from user_processes import Closer, Drain, Ticker

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.sim.lava.runtimes.base import NetworkRuntime
from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime
from loihi_mmfree.sim.lava.runtimes.stock import StockRuntime

pytestmark = pytest.mark.usefixtures("nothing_left")
BOTH = pytest.mark.parametrize("runtime_class", [InProcessRuntime, StockRuntime])
CONFIG = Loihi2SimCfg(select_tag="fixed_pt")


def wired(buffer_size: int) -> tuple[LIF, VarWire]:
    """Neurons whose potential grows by 1000 in a time step, and a wire that reads it."""
    neurons, wire = LIF(shape=(2,), du=0, dv=0, vth=1000, bias_mant=1000), VarWire(buffer_size=buffer_size)
    wire.connect_var(neurons.v)
    return neurons, wire


def test_a_wire_is_read_while_the_network_runs() -> None:
    neurons, wire = wired(buffer_size=2)
    with InProcessRuntime(neurons, CONFIG) as runtime:
        runtime.begin(5)
        received = [wire.receive() for _ in range(5)]
    np.testing.assert_array_equal(received, [[1000 * step] * 2 for step in range(1, 6)])


def test_a_full_wire_is_a_deadlock_that_names_it() -> None:
    neurons, wire = wired(buffer_size=2)
    with (
        InProcessRuntime(neurons, CONFIG) as runtime,
        pytest.raises(SimulationError, match=rf"to send on {wire.name} -> the host, which is full \(2 messages\)"),
    ):
        runtime.run(5)


def two_domains(first: Ticker | Closer, second: Ticker) -> Loihi2SimCfg:
    first.s_out.connect(second.a_in)
    domains = [SyncDomain(each.name, LoihiProtocol(), [each]) for each in (first, second)]
    return Loihi2SimCfg(custom_sync_domains=domains)


def test_a_process_of_a_second_domain_can_pause_the_run() -> None:
    # The first domain cannot end its run: the channel to the second holds two messages.
    first, second = Ticker("first"), Ticker("second", pause_in=3)
    config = two_domains(first, second)
    with InProcessRuntime(first, config, compile_config={"pypy_channel_size": 2}) as runtime:
        runtime.run(100)
        assert second.ticks.get().tolist() == [3]


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("channel_size", [1, 64])
@pytest.mark.parametrize("cyclic", [False, True])
def test_two_domains_pause_wherever_they_are(turns: int, channel_size: int, cyclic: bool) -> None:
    first, second = Closer("first", os.devnull) if cyclic else Ticker("first"), Ticker("second")
    if cyclic:
        second.s_out.connect(first.a_in)
    config = two_domains(first, second)
    with InProcessRuntime(first, config, compile_config={"pypy_channel_size": channel_size}) as runtime:
        runtime.start(RunContinuous())
        for _ in range(turns):
            runtime._scheduler.poll()
        runtime.pause()
        ticks = second.ticks.get()
        runtime.run(3)
        assert second.ticks.get().tolist() == [ticks + 3]


def test_a_run_of_two_domains_goes_on_after_a_pause() -> None:
    first, second = Ticker("first"), Ticker("second", pause_in=3)
    with InProcessRuntime(second, two_domains(first, second)) as runtime:
        runtime.run(100)
        runtime.run(4)
        assert second.ticks.get().tolist() == [7]
        runtime.start(RunContinuous())
        runtime.pause()
        runtime.run(1)


def test_a_process_beside_an_asynchronous_one_can_pause_the_run() -> None:
    ticker, drain = Ticker("ticker", pause_in=10), Drain()
    ticker.s_out.connect(drain.a_in)
    with InProcessRuntime(ticker, CONFIG) as runtime:
        runtime.run(100)
        assert ticker.ticks.get().tolist() == [10]
        runtime.start(RunContinuous())
        runtime.pause()
        assert drain.taken.get()[0] >= 10


def test_a_process_pauses_that_waits_for_an_asynchronous_one() -> None:
    # The asynchronous one is slow: the channel to it is full, and it takes nothing more once it has paused.
    ticker, drain = Ticker("ticker"), Drain(looks=10)
    ticker.s_out.connect(drain.a_in)
    with InProcessRuntime(ticker, CONFIG, compile_config={"pypy_channel_size": 1}) as runtime:
        for _ in range(3):
            runtime.start(RunContinuous())
            for _ in range(100):
                runtime._scheduler.poll()
            runtime.pause()
        assert drain.taken.get()[0] >= 9


def closers(file: Path, fails: tuple[bool, bool] = (False, False)) -> list[Closer]:
    pair = [Closer(name, str(file), fails=each) for name, each in zip(("one", "two"), fails, strict=True)]
    pair[0].s_out.connect(pair[1].a_in)
    return pair


def at_rest(runtime: InProcessRuntime) -> None:
    runtime.run(1)


def under_way(runtime: InProcessRuntime) -> None:
    runtime.begin(1000)


def continuously(runtime: InProcessRuntime) -> None:
    runtime.start(RunContinuous())


@pytest.mark.parametrize("state", [at_rest, under_way, continuously])
def test_stop_handlers_are_called_whatever_the_network_does(
    tmp_path: Path, state: Callable[[InProcessRuntime], None]
) -> None:
    with InProcessRuntime(closers(tmp_path / "called")[0], CONFIG) as runtime:
        state(runtime)
    assert (tmp_path / "called").read_text() == "one\ntwo\n"


def test_stop_handlers_are_called_when_a_process_ends_the_run(tmp_path: Path) -> None:
    culprit, (one, _) = Culprit("stop"), closers(tmp_path / "called")
    culprit.s_out.connect(one.a_in)
    with InProcessRuntime(culprit, CONFIG) as runtime:
        runtime.run(10)
    assert (tmp_path / "called").read_text() == "one\ntwo\n"


def test_every_failure_of_a_time_step_is_reported(tmp_path: Path) -> None:
    pair = closers(tmp_path / "called", fails=(True, True))
    expected = (
        r"2 processes failed: one \(Closer\) failed in time step 2: ValueError: one is the fault; "
        r"two \(Closer\) failed in time step 2: ValueError: two is the fault"
    )
    with pytest.raises(RuntimeError, match=expected) as failure, InProcessRuntime(pair[0], CONFIG) as runtime:
        runtime.run(10)
    assert isinstance(failure.value.__cause__, ValueError)


def test_every_failure_of_a_time_step_is_reported_by_stock_lava_too(tmp_path: Path) -> None:
    pair = closers(tmp_path / "called", fails=(True, True))
    expected = "2 processes failed: one .*one is the fault; two .*two is the fault"
    with pytest.raises(RuntimeError, match=expected), StockRuntime(pair[0], CONFIG) as runtime:
        runtime.run(10)


def raised_in_a_thread(action: Callable[[], Any]) -> Exception | None:
    """What an action raises in a thread of its own."""
    raised: list[Exception] = []

    def act() -> None:
        try:
            action()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=act, name="visitor")
    thread.start()
    thread.join()
    return raised[0] if raised else None


@pytest.mark.parametrize(
    "what", ["run", "begin", "pause", "wait", "stop", "abort", "get", "set", "send", "receive"]
)
def test_another_thread_is_refused_and_the_network_goes_on(what: str) -> None:
    adder = Adder()
    with InProcessRuntime(adder, CONFIG) as runtime:
        runtime.begin(3)
        actions: dict[str, Callable[[], Any]] = {
            "run": lambda: runtime.run(1),
            "begin": lambda: runtime.begin(1),
            "pause": runtime.pause,
            "wait": runtime.wait,
            "stop": runtime.stop,
            "abort": runtime.abort,
            "get": adder.bias.get,
            "set": lambda: adder.bias.set(np.ones(2)),
            "send": lambda: adder.a_in.external_pipe_csp_send_port.send(np.zeros(2)),
            "receive": lambda: adder.out.external_pipe_csp_recv_port.recv(),
        }
        error = raised_in_a_thread(actions[what])
        assert isinstance(error, SimulationError)
        assert "driven by the thread that built it, 'MainThread'; this is 'visitor'" in str(error)
        for _ in range(3):
            runtime.send(adder.a_in, np.ones(2))
            assert runtime.receive(adder.out).tolist() == [1, 1]
        runtime.wait()


def test_a_thread_can_build_and_run_a_network_of_its_own() -> None:
    def build_and_run() -> None:
        counter = Counter()
        with InProcessRuntime(counter, CONFIG) as runtime:
            runtime.run(2)

    assert raised_in_a_thread(build_and_run) is None


@BOTH
def test_settings_of_the_compiler_reach_it(runtime_class: type[NetworkRuntime]) -> None:
    first, second = Ticker("first"), Ticker("second")
    first.s_out.connect(second.a_in)
    with runtime_class(first, CONFIG, compile_config={"pypy_channel_size": 3}) as runtime:
        assert {port.size for port in runtime._open_ports if port.name in ("s_out", "a_in")} == {3}

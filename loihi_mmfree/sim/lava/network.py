"""A compiled network on Lava's CPU simulation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import numpy as np
from lava.magma.core.process.process import ProcessServer
from lava.magma.core.process.variable import VarServer
from numpy.typing import NDArray

from loihi_mmfree.activity.observer import NOBODY, Observer, Taps
from loihi_mmfree.errors import UsageError
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import OVERFLOWS, Counters
from loihi_mmfree.ir.evaluators import count_wide_sums
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.ir.synapses import Synapse
from loihi_mmfree.processes.neuron_group import TALLY
from loihi_mmfree.sim.backend import GraphBackend, TakeLogits
from loihi_mmfree.sim.engine.compiled import PROMPT_TOKENS, pieces
from loihi_mmfree.sim.lava.graph import LavaGraph, SimulationConfig, build
from loihi_mmfree.sim.lava.runtimes.base import NetworkRuntime
from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime
from loihi_mmfree.sim.lava.runtimes.stock import StockRuntime

RUNTIMES = ("inprocess", "stock")
DEFAULT_TIMEOUT_SECONDS = 60.0


class LavaNetwork(GraphBackend):
    """Runs a network as Lava processes and keeps its recurrent state between calls.

    A context manager; whatever ends it (the block's end, an error, Ctrl-C), no process, thread or shared memory
    stays behind. The counterpart without Lava is `loihi_mmfree.sim.engine.specification.Engine`.

    Parameters
    ----------
    graph : Graph
        Lowered, with balanced delays.
    granularity : {"operator", "block", "network"}
        What a Lava process is: a node, with the time steps of the chip; or a block, or the whole network, which
        passes a token in one time step, and many tokens of a prompt unless somebody observes it.
    runtime : {"inprocess", "stock"}
        Lava in this process, or Lava as it comes: an OS process for every Lava process.
    timeout_seconds : float
        How long the stock runtime may make no progress. The other one notices a deadlock at once.
    strict : bool
        Check every register against its declared width and count overflows.
    kernels : {"compiled", "numpy"}
        What processes compute with.
    observer : Observer
        What it asks for is read by the host over a channel for every message between processes: at operator
        granularity all that there is, at others the values between blocks.

    Raises
    ------
    UsageError
        Unknown granularity or runtime, or the observer asks for what no process sends.
    SimulationError
        A process failed or cannot go on; the message names it. The network has ended then.
    """

    def __init__(
        self,
        graph: Graph,
        granularity: str = "operator",
        runtime: str = "inprocess",
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        strict: bool = True,
        kernels: str = "compiled",
        observer: Observer = NOBODY,
    ) -> None:
        super().__init__(graph)
        self._burst = 1
        if runtime not in RUNTIMES:
            raise UsageError(f"runtime: unknown {runtime!r}; known: {', '.join(RUNTIMES)}")
        able = {"values", "incidents", "counts"} if granularity == "operator" else {"values"}
        advice = "use the engine, or sim at operator granularity"
        observer.require(able, f"sim at {granularity} granularity", advice)
        self._taps = Taps(graph, observer)
        tallied = self._taps.tally is not None
        self._observed = tallied or self._taps.tap is not None
        together = 1 if self._observed else PROMPT_TOKENS
        self._lava = build(graph, granularity, strict, kernels, tallied, together)
        self._together = together > 1 and granularity == "network"
        self._strict, self._wide_sums = strict, Counters()
        self._tapped = tuple(self._lava.ports) if self._observed else ()
        for source in self._tapped:
            self._lava.ports[source].flag_external_pipe()
        try:
            self._runtime = _start(runtime, self._lava, timeout_seconds)
        except BaseException:
            _forget(self._lava)
            raise

    @property
    def depth(self) -> int:
        """Time steps from a token's entry until its logits leave."""
        return self._lava.depth

    @property
    def counters(self) -> Counters:
        """Saturations and, if strict, overflows since the network was made.

        At operator granularity synapses are stock Lava, which counts nothing: sums wider than an accumulator,
        which the proof of bounds excludes, are counted only where the network is observed.
        """
        processes = self._lava.processes.values()
        counted = (process.counters.get() for process in processes if hasattr(process, "counters"))
        return Counters.total([self._wide_sums, *(Counters(*map(int, each)) for each in counted)])

    def state(self, node: str) -> Mapping[str, Integers]:
        """Return the state variables of a neuron group, after the last token processed.

        Returns
        -------
        mapping name in the program -> int64 array [n]
        """
        group = self.graph.by_name[node]
        if not isinstance(group, NeuronGroup):
            raise UsageError(f"{node} is no neuron group: it has no state")
        names = [state.name for state in group.program.states]
        return {name: self._lava.states[node, name].get().astype(np.int64) for name in names}

    def reset(self) -> None:
        """Forget the sequence so far."""
        for variable in self._lava.states.values():
            variable.set(np.zeros(variable.shape, dtype=np.int64))

    def read(self, ids: NDArray[np.int64], take: TakeLogits | None = None) -> NDArray[np.int32]:
        """Read tokens and return the logits after the last; see `Backend.read`.

        The tokens enter one a time step, and the call returns when the last one's logits have left. So a prompt
        in one call is pipelined, and tokens in a call each fall through. Where tokens may share a message, they
        enter in the engine's pieces.
        """
        self._taps.begin(len(ids))
        try:
            if self._together:
                logits = self._run_pieces(ids, take)
            else:
                self._set_burst(len(ids))
                logits = self._run_burst(ids, take)
        except BaseException:
            self.close()
            raise
        self._taps.end()
        return logits

    def close(self) -> None:
        """End the network. Does nothing the second time."""
        self._runtime.abort()
        _forget(self._lava)

    def _tell(self, source: Source, message: NDArray[np.int64]) -> None:
        """Tell the observer a message [1, n] of a token."""
        node = self.graph.by_name[source.node]
        if source.port == TALLY:
            if self._taps.tally:
                self._taps.tally(source.node, message)
            return
        if self._taps.tap:
            self._taps.tap(source, message)
        if self._strict and isinstance(node, Synapse) and node.counts:
            counted = count_wide_sums(message, self.graph.chip.accumulator_bits.value)
            self._wide_sums.overflows += int(counted[:, OVERFLOWS].sum())
            if self._taps.tally:
                self._taps.tally(source.node, counted)

    def _set_burst(self, tokens: int) -> None:
        """Tell the processes how many tokens enter together, if that has changed and if they have to know."""
        if tokens == self._burst or (self.depth == 0 and not self._together):
            return
        origin = 0 if self._together else self._steps
        for process in self._lava.scheduled:
            process.schedule.set(np.array([origin, tokens]))
        self._burst = tokens

    def _run_pieces(self, ids: NDArray[np.int64], take: TakeLogits | None) -> NDArray[np.int32]:
        """Run until all tokens have passed, pieces of them in a message each."""
        done = 0
        for count, equal in groupby(pieces(len(ids))):
            part = ids[done : done + count * len(list(equal))]
            self._set_burst(count)
            logits = self._run_burst(part, take) if count == 1 else self._run_together(part, count, take)
            done += len(part)
        return logits

    def _run_together(self, ids: NDArray[np.int64], count: int, take: TakeLogits | None) -> NDArray[np.int32]:
        """Run messages of `count` tokens each."""
        source, sink = self._lava.source.row_together, self._lava.sink.logits_together
        table, rows = self.graph.tensors[self._tokens.table], np.zeros(source.shape, dtype=np.int32)
        self._runtime.begin(len(ids) // count)
        for first in range(0, len(ids), count):
            rows[:count] = table[ids[first : first + count]]
            self._runtime.send(source, rows)
            logits = self._runtime.receive(sink)[:count]
            if take is not None:
                take(logits)
        self._runtime.wait()
        self._steps += len(ids)
        return logits[-1].copy()

    def _run_burst(self, ids: NDArray[np.int64], take: TakeLogits | None) -> NDArray[np.int32]:
        """Run until the last logits have left, and pass on what the network sends in the meantime."""
        steps, table = len(ids) + self.depth, self.graph.tensors[self._tokens.table]
        logits = np.empty((1, self._logits.size), dtype=np.int32)
        self._runtime.begin(steps)
        for step in range(steps):
            if step < len(ids):
                self._runtime.send(self._lava.source.row, table[ids[step]].astype(np.int32))
            for source in self._tapped:
                message = self._runtime.receive(self._lava.ports[source])
                if 0 <= step - self._lava.sent[source] < len(ids):
                    self._tell(source, message[np.newaxis].astype(np.int64))
            if step >= self.depth:
                logits[0] = self._runtime.receive(self._lava.sink.logits)
                if take is not None:
                    take(logits)
        self._runtime.wait()
        self._steps += steps
        return logits[0].copy()


def _start(runtime: str, lava: LavaGraph, timeout_seconds: float) -> NetworkRuntime:
    config = SimulationConfig()
    started: NetworkRuntime
    if runtime == "inprocess":
        started = InProcessRuntime(lava.source, config)
    else:
        started = StockRuntime(lava.source, config, timeout_seconds)
    started.initialize()
    return started


def _forget(lava: LavaGraph) -> None:
    """End its threads, and take the processes off Lava's global lists, which would keep them for ever."""
    lava.close()
    processes = {id(process) for process in lava.processes.values()}
    variables = {id(variable) for process in lava.processes.values() for variable in process.vars}
    for known, ours in ((ProcessServer().processes, processes), (VarServer().vars, variables)):
        known[:] = [each for each in known if id(each) not in ours]

"""A network on a simulated core: the same integers, from hardware, with the cycles that it took."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.observer import NOBODY, Observer, Taps
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.fixedpoint.interpreter import Counters
from loihi_mmfree.ir.graph import Graph, Source
from loihi_mmfree.rtl.build import build
from loihi_mmfree.rtl.parameters import Size
from loihi_mmfree.rtl.simulator.process import UNHINDERED, SimulatedCore, Stalls, Watched
from loihi_mmfree.rtl.simulator.toolchain import find_toolchain, simulator
from loihi_mmfree.sim.backend import GraphBackend, TakeLogits


class RtlCore(GraphBackend):
    """Runs a network on its core, which Verilator simulates.

    Parameters
    ----------
    graph : Graph
        Lowered.
    size : Size
        Of the core.
    observer : Observer
        Of which it can tell `values`: every message and every sum as it lay in the core.
    stalls : Stalls
        Beats held back at random.

    Attributes
    ----------
    token_cycles : list of int
        Of every token so far, from the first beat of its row to its last logit.

    Raises
    ------
    BackendUnavailableError
        Amaranth, Verilator or a compiler is missing.
    DoesNotFitError
        The network needs more than the core has.
    """

    def __init__(
        self, graph: Graph, size: Size | None = None, observer: Observer = NOBODY, stalls: Stalls = UNHINDERED
    ) -> None:
        super().__init__(graph)
        observer.require({"values"}, "the RTL", "use the engine, which gives the same bits")
        find_toolchain()
        from loihi_mmfree.rtl.hardware.verilog import generate

        image = build(graph, size or Size())
        program = simulator(image.parameters, generate(image.parameters).text)
        self._core = SimulatedCore(program, image, stalls)
        self._fresh, self._saturations = True, 0
        self._taps = Taps(graph, observer)
        self.token_cycles: list[int] = []

    @property
    def counters(self) -> Counters:
        """Saturations so far; overflows are none, by proof: no register keeps what does not fit."""
        return Counters(self._saturations, 0)

    @property
    def cycles(self) -> int:
        """Clock cycles of all tokens so far."""
        return sum(self.token_cycles)

    def reset(self) -> None:
        """Forget the sequence so far."""
        self._fresh = True

    def read(self, ids: NDArray[np.int64], take: TakeLogits | None = None) -> NDArray[np.int32]:
        """Read tokens and return the logits after the last; see `Backend.read`."""
        table = self.graph.tensors[self._tokens.table]
        for each in ids:
            row = table[each].astype(np.int64)
            found = self._core.token(row, self._fresh, watched=self._taps.tap is not None)
            self._fresh, self._saturations = False, found.saturations
            self.token_cycles.append(found.cycles)
            if found.watched is not None:
                self._tell(row, found.watched, found.logits)
            self._steps += 1
            if take is not None:
                take(found.logits[np.newaxis])
        return found.logits

    def _tell(self, row: Integers, watched: Watched, logits: NDArray[np.int32]) -> None:
        """Tell every message of a token, in the order of the graph."""
        image, tap = self._core.image, self._taps.tap
        assert tap is not None
        values: dict[Source, Integers] = {self._tokens.out(): row}
        values.update((image.sends[number], sent) for number, sent in watched.sent.items())
        summed: list[Integers] = [*watched.summed, logits.astype(np.int64)]
        for product, sums in zip(image.schedule.products, summed, strict=True):
            values[product.synapse.out()] = sums
        for node in self.graph:
            for port in node.outputs:
                source = node.out(port)
                if source not in values:
                    # A delay, a sum or a broadcast: nothing in the core, but what its reader finds.
                    evaluator = node.evaluator(self.graph.tensors, self.graph.chip, strict=False)
                    passed, _ = evaluator.run([values[each][np.newaxis] for each in node.inputs])
                    values[source] = passed[port][0]
                tap(source, values[source][np.newaxis])

    def close(self) -> None:
        """End the simulation."""
        self._core.close()

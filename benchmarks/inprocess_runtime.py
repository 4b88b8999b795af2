"""Time the in-process Lava runtime on a chain of trivial processes, and stock Lava for comparison.

    uv run python benchmarks/inprocess_runtime.py [--lengths 50 200 400] [--steps 200] [--stock]

Prints, for each length of the chain, how long the network takes to start (Lava's compiler included), what a
time step costs for each process, and how long it takes to stop.
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from loihi_mmfree.sim.lava.runtimes.base import NetworkRuntime
from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime
from loihi_mmfree.sim.lava.runtimes.stock import StockRuntime


class Relay(AbstractProcess):
    """Sends on what it receives. Unconnected ports carry nothing, so the first of a chain sends zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.a_in = InPort(shape=(1,))
        self.s_out = OutPort(shape=(1,))


@implements(proc=Relay, protocol=LoihiProtocol)
@requires(CPU)
class PyRelayModel(PyLoihiProcessModel):
    """Receives and sends once in a time step."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def run_spk(self) -> None:
        """Relay a message."""
        self.s_out.send(self.a_in.recv())


def chain(length: int) -> Relay:
    """Connect processes one after the other; return the first."""
    relays = [Relay() for _ in range(length)]
    for source, destination in itertools.pairwise(relays):
        source.s_out.connect(destination.a_in)
    return relays[0]


def measure(runtime_class: type[NetworkRuntime], length: int, steps: int) -> tuple[float, float, float]:
    """Return start and stop in seconds, and the best of three runs in seconds for a process and time step."""
    process = chain(length)
    begin = time.perf_counter()
    runtime = runtime_class(process, Loihi2SimCfg())
    with runtime:
        start = time.perf_counter() - begin
        runs = []
        for _ in range(3):
            begin = time.perf_counter()
            runtime.run(steps)
            runs.append(time.perf_counter() - begin)
        begin = time.perf_counter()
    return start, time.perf_counter() - begin, min(runs) / steps / length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 200, 400], help="processes in the chain")
    parser.add_argument("--steps", type=int, default=200, help="time steps of a run; the best of three counts")
    parser.add_argument("--stock", action="store_true", help="also time Lava's own multiprocessing (slow)")
    arguments = parser.parse_args()
    measure(
        InProcessRuntime, length=2, steps=1
    )  # Lava reads the files in this folder: let it import what they need
    print(f"{'runtime':<10} {'processes':>9} {'start s':>8} {'µs/process/step':>16} {'ms/step':>8} {'stop s':>7}")
    for runtime_class in (InProcessRuntime, StockRuntime) if arguments.stock else (InProcessRuntime,):
        name = "in-process" if runtime_class is InProcessRuntime else "stock"
        for length in arguments.lengths:
            start, stop, cost = measure(runtime_class, length, arguments.steps)
            step = cost * length
            print(f"{name:<10} {length:>9} {start:>8.3f} {cost * 1e6:>16.1f} {step * 1e3:>8.2f} {stop:>7.3f}")


if __name__ == "__main__":
    main()

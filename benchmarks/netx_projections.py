"""Hold the projections that lava-dl's netx reads against the vectors of the network they were exported from.

Runs in an environment of its own, for lava-dl 0.6.0 wants Python 3.10 and torch 2.3 (pip install lava-dl==0.6.0),
and needs nothing of this package there:

    loihi-mmfree export NET --format netx -o projections.net
    loihi-mmfree vectors NET -o vectors
    LAVA_DL/bin/python benchmarks/netx_projections.py projections.net vectors [NODE ...]

Every case of a projection's vectors is one sequence. What is sent are the differences of its steps, as sigma-delta
neurons would; the layer's sigma neurons add them up. Prints for each projection how many sums differ, and how many
messages the golden tokens cost as values and as differences.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
from lava.lib.dl import netx
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source

GOLDEN = "golden"


def read_layer(file: str, index: int, bits: int, sent: np.ndarray) -> np.ndarray:
    """Send a layer of the file messages [T, columns], and return what its neurons send, [T, rows]."""
    layer = netx.hdf5.Network(net_config=file, num_layers=index + 1, skip_layers=index, input_message_bits=bits)
    steps = len(sent) + 1  # A dense synapse takes one.
    source = Source(data=sent.T.astype(int))
    sink = Sink(shape=layer.out.shape, buffer=steps)
    source.s_out.connect(layer.inp)
    layer.out.connect(sink.a_in)
    layer.run(RunSteps(steps), Loihi2SimCfg(select_tag="fixed_pt"))
    received = sink.data.get()
    layer.stop()
    return received.T[1:].astype(np.int64)


def main(file: str, vectors: str, *wanted: str) -> int:
    """Compare, print, and return how many projections differ."""
    with h5py.File(file) as archive:
        layers = sorted(
            (int(name), each.attrs["node"], int(each.attrs["message_bits"]))
            for name, each in archive["layer"].items()
        )
    differing = values = differences = 0
    for index, node, bits in layers:
        if wanted and node not in wanted:
            continue
        with np.load(Path(vectors) / "nodes" / f"{node}.npz") as arrays:
            cases = [key.split("/")[0] for key in arrays.files if key.endswith("/inputs/in")]
            given = np.concatenate([arrays[f"{case}/inputs/in"] for case in cases])
            expected = np.concatenate([arrays[f"{case}/outputs/out"] for case in cases])
            golden = arrays[f"{GOLDEN}/inputs/in"]
        found = read_layer(file, index, bits, np.diff(given, axis=0, prepend=0))
        wrong = int((found != expected).sum())
        differing += wrong > 0
        sent, changed = np.count_nonzero(golden), np.count_nonzero(np.diff(golden, axis=0, prepend=0))
        values, differences = values + sent, differences + changed
        print(f"{node}: {wrong} of {expected.size} sums differ; {sent} values, {changed} differences", flush=True)
    print(f"{differing} projections differ; golden messages: {values} as values, {differences} as differences")
    return differing


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) > 0)

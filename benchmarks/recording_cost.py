"""What counting by token costs the compiled engine: interleaved runs with and without, and what is kept of them.

    python benchmarks/recording_cost.py NET                  # a minute for mmf-demo
    python benchmarks/recording_cost.py NET --tokens 10000   # memory and file of so many

Prints medians over the repeats, and in how many of them the recording engine was slower.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

from loihi_mmfree.activity.file import ACTIVITY, save_activity
from loihi_mmfree.activity.observer import NOBODY
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.net.artifact import Net, load_net
from loihi_mmfree.net.folder import MANIFEST
from loihi_mmfree.sim.engine.compiled import FastEngine


def seconds_per_token(engine: FastEngine, ids: np.ndarray, at_once: int) -> float:
    begin = time.perf_counter()
    for first in range(0, len(ids), at_once):
        engine.process(ids[first : first + at_once])
    return (time.perf_counter() - begin) / len(ids)


def compare(net: Net, ids: np.ndarray, at_once: int, repeats: int) -> None:
    """Print microseconds a token of both, taken in turns."""
    observers = NOBODY, ActivityRecorder(net.graph).observer
    plain, recording = (FastEngine(net.graph, strict=True, observer=each) for each in observers)
    taken: dict[bool, list[float]] = {False: [], True: []}
    for repeat in range(repeats + 1):
        for record, engine in ((False, plain), (True, recording)):
            seconds = seconds_per_token(engine, ids, at_once)
            if repeat:  # the first warms up
                taken[record].append(1e6 * seconds)
    np.testing.assert_array_equal(plain.process(ids[:3]), recording.process(ids[:3]))
    without, with_record = (float(np.median(taken[record])) for record in (False, True))
    slower = sum(b > a for a, b in zip(taken[False], taken[True], strict=True))
    print(
        f"{len(ids)} tokens, {at_once} at once: {without:.1f} µs a token without, {with_record:.1f} with: "
        f"{with_record - without:+.1f} µs, {with_record / without - 1:+.1%}; slower in {slower} of {repeats}"
    )
    for engine in (plain, recording):
        engine.close()


def measure_kept(net: Net, ids: np.ndarray) -> None:
    """Print what recording so many tokens takes in memory and on disk."""
    recorder = ActivityRecorder(net.graph)
    engine = FastEngine(net.graph, strict=True, observer=recorder.observer)
    tracemalloc.start()
    for token in ids:
        engine.read(np.array([token]))
    held, _ = tracemalloc.get_traced_memory()
    activity = recorder.activity("benchmark", ids)
    engine.close()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(net.path / MANIFEST, folder)
        size = save_activity(folder, activity).stat().st_size
    print(
        f"{len(ids)} tokens, {len(activity.messages)} outputs, {len(activity.incidents.nodes)} nodes, "
        f"{len(activity.incidents.rows)} incidents: {held / 1e6:.1f} MB held, {size / 1e6:.2f} MB in {ACTIVITY}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", type=Path)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=11)
    arguments = parser.parse_args()
    net = load_net(arguments.net, verify=False)
    ids = np.random.default_rng(0).integers(0, net.vocab_size, arguments.tokens)
    for at_once in (1, 64):
        compare(net, ids, at_once, arguments.repeats)
    measure_kept(net, ids)


if __name__ == "__main__":
    main()

"""Speed of the torch backend on a GPU: many sequences at once, and token by token.

Before anything is timed, its kernels are held against its eager path, logits and counters, on part of the same
sequences. Numbers are medians of repeats; the first run of each kind, which compiles kernels, does not count.

    python benchmarks/batched_speed.py NET --sequences 64 --tokens 512 --decode 1 8 64 256
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from loihi_mmfree.ir.nodes import TokenIn
from loihi_mmfree.net.artifact import load_net
from loihi_mmfree.sim.batched.engine import BatchedEngine, BatchLogits, open_device

CHECKED_SEQUENCES, CHECKED_TOKENS = 5, 40
STEPS = 100


def hash_of(engine: BatchedEngine, sequences: list[NDArray[np.int64]]) -> str:
    """Return one hash of all logits, sequence by sequence."""
    found: list[list[bytes]] = [[] for _ in sequences]

    def take(logits: BatchLogits) -> None:
        for row, sequence in zip(logits.values.cpu().numpy(), logits.sequences, strict=True):
            found[sequence].append(row.tobytes())

    engine.begin(len(sequences))
    engine.read_batch(sequences, take)
    return hashlib.sha256(b"".join(b"".join(each) for each in found)).hexdigest()


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median duration of a call, its work on the device included."""
    call()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", type=Path)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--decode", type=int, nargs="*", default=[1, 8, 64, 256], help="sequences decoded at once")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    graph, device = load_net(arguments.net).graph, open_device("cuda")
    vocabulary = len(graph.tensors[next(node.table for node in graph if isinstance(node, TokenIn))])
    random = np.random.default_rng(0)
    texts = [random.integers(0, vocabulary, arguments.tokens) for _ in range(arguments.sequences)]
    engine = BatchedEngine(graph, device)
    part = [ids[:CHECKED_TOKENS] for ids in texts[:CHECKED_SEQUENCES]]
    eager = BatchedEngine(graph, device, eager=True)
    if hash_of(engine, part) != hash_of(eager, part) or engine.counters != eager.counters:
        raise SystemExit("kernels and eager path differ")

    def score() -> None:
        engine.begin(len(texts))
        engine.read_batch(texts, lambda logits: torch.logsumexp(logits.values.float() * engine.logit_scale, -1))

    def read() -> None:
        engine.begin(len(texts))
        engine.read_batch(texts)

    tokens = arguments.sequences * arguments.tokens
    found: dict[str, object] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    found["all logits, tokens/s"] = round(tokens / seconds(score, arguments.repeats))
    found["last logits, tokens/s"] = round(tokens / seconds(read, arguments.repeats))
    for count in arguments.decode:
        ids = [np.array([5])] * count
        engine.begin(count)
        once = seconds(lambda ids=ids: engine.read_batch(ids).argmax(-1).cpu(), STEPS)
        found[f"decode {count}, tokens/s"] = round(count / once)
    engine.reset()
    found["decode as `run`, tokens/s"] = round(
        1 / seconds(lambda: engine.read(np.array([5]), lambda _: None), STEPS)
    )
    found["peak GB on the device"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

"""Speed of the integer engine: decode and prefill, beside what the machine's memory and float unit can do.

Before anything is timed, the kernels are held against the NumPy path: all logits of a prompt and of the
tokens after it have to be equal, bit for bit. Every number is the median of repeats, with the lowest and the
highest, because the machine may be busy with other things; its load is printed with them.

    python benchmarks/engine_speed.py NET --threads 1 2 --checkpoint CKPT
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import TokenIn
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.memory import peak_rss_mb
from loihi_mmfree.net.artifact import load_net
from loihi_mmfree.sim.engine.compiled import FastEngine
from loihi_mmfree.sim.engine.specification import Engine

PROMPTS = (16, 128, 512)


@dataclass(frozen=True)
class Timing:
    """One line of the table: tokens in a second, and what they mean for memory and arithmetic."""

    path: str
    threads: int
    what: str
    tokens_per_second: float
    lowest: float
    highest: float
    packed_gigabytes_per_second: float | None
    giga_mac_per_second: float
    load: float


def seconds(call: Callable[[], object], repeats: int) -> list[float]:
    """Return the durations of calls, shortest first, after one that does not count."""
    call()
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return sorted(found)


def read_bandwidth() -> float:
    """Return GB/s at which two sums over 256 MB each, in two threads, read memory."""
    from concurrent.futures import ThreadPoolExecutor

    data = np.ones((2, 1 << 25), dtype=np.int64)
    with ThreadPoolExecutor(2) as pool:
        fastest = seconds(lambda: list(pool.map(np.max, data)), 5)[0]
    return data.nbytes / fastest / 1e9


def float_rate() -> float:
    """Return GMAC/s of a float32 matrix product of 1024 x 1024 through NumPy's BLAS."""
    left = np.ones((1024, 1024), dtype=np.float32)
    return 1024**3 / seconds(lambda: left @ left, 5)[0] / 1e9


def macs(graph: Graph, with_head: bool) -> int:
    """Return the ternary products of one token."""
    logits = graph.nodes[-1].inputs[0].node
    found = (node for node in graph if isinstance(node, TernarySynapse))
    return sum(node.rows * node.columns for node in found if with_head or node.name != logits)


def check_equal(graph: Graph, engine: FastEngine, ids: np.ndarray) -> None:
    """Hold a prompt, the tokens after it and the states against the NumPy path; end if a bit differs."""
    specification = Engine(graph, strict=True)
    engine.reset()
    for part in (ids[:17], ids[17:18], ids[18:20]):
        if not np.array_equal(engine.process(part), specification.process(part)):
            raise SystemExit("the kernels' logits differ from NumPy's: no speed is worth reporting")


def timing(
    path: str, threads: int, what: str, tokens: int, durations: list[float], macs_a_token: int, bytes_: int = 0
) -> Timing:
    """Return the line of several calls that each took so many tokens; `bytes_` are what a token reads, if told."""
    rates = [tokens / each for each in durations]
    rate = float(np.median(rates))
    gigabytes = rate * bytes_ / 1e9 if bytes_ else None
    load = os.getloadavg()[0]
    return Timing(path, threads, what, rate, rates[-1], rates[0], gigabytes, rate * macs_a_token / 1e9, load)


def measure(graph: Graph, engine: FastEngine, threads: int, ids: np.ndarray, repeats: int) -> Iterator[Timing]:
    """Time decoding and prompts."""
    packed = sum(each.nbytes for name, each in graph.tensors.items() if name.endswith(".codes"))
    cases = [("decode", 1, repeats * 10)] + [(f"prefill {tokens}", tokens, repeats) for tokens in PROMPTS]
    for what, tokens, times in cases:
        durations = seconds(partial(engine.read, ids[:tokens]), times)
        products = macs(graph, with_head=tokens == 1)
        yield timing("kernels", threads, what, tokens, durations, products, packed if tokens == 1 else 0)


def measure_numpy(graph: Graph, ids: np.ndarray) -> Iterator[Timing]:
    """Time the specification: few repeats, it is slow."""
    engine = Engine(graph, strict=True)
    for what, tokens in (("decode", 1), ("prefill 16", 16)):
        durations = seconds(partial(engine.process, ids[:tokens]), 3)
        yield timing("numpy", 0, what, tokens, durations, macs(graph, with_head=True))


def measure_float(checkpoint: Path, graph: Graph, ids: np.ndarray, repeats: int) -> Iterator[Timing]:
    """Time the float reference in PyTorch: a token that reads its state, and prompts with all their logits."""
    import torch

    from loihi_mmfree.checkpoint import open_checkpoint
    from loihi_mmfree.model.language_model import MatMulFreeLM

    model = MatMulFreeLM.from_checkpoint(open_checkpoint(checkpoint))
    with torch.inference_mode():
        _, state = model(torch.tensor(ids[None, :1]))
        for what, tokens in (("decode", 1), *((f"prefill {tokens}", tokens) for tokens in PROMPTS)):
            read = partial(model, torch.tensor(ids[None, :tokens]), state if tokens == 1 else None)
            durations, threads = seconds(read, repeats), torch.get_num_threads()
            yield timing("float", threads, what, tokens, durations, macs(graph, with_head=True))


def table(timings: list[Timing]) -> str:
    """Return the timings as a table in Markdown."""
    lines = [
        "| path | threads | what | tokens/s (median) | lowest to highest | packed GB/s | GMAC/s | load |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in timings:
        gigabytes = f"{each.packed_gigabytes_per_second:.1f}" if each.packed_gigabytes_per_second else ""
        lines.append(
            f"| {each.path} | {each.threads or ''} | {each.what} | {each.tokens_per_second:.1f} "
            f"| {each.lowest:.1f} to {each.highest:.1f} | {gigabytes} | {each.giga_mac_per_second:.0f} "
            f"| {each.load:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the integer engine.")
    parser.add_argument("net", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[0], help="0: the engine chooses")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-strict", action="store_true", help="do not count overflows")
    parser.add_argument(
        "--no-numpy", action="store_true", help="do not time the NumPy path (it is still compared)"
    )
    parser.add_argument("--checkpoint", type=Path, help="also time the float reference of the same model")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    graph = load_net(arguments.net, verify=False).graph
    tokens = next(node for node in graph if isinstance(node, TokenIn))
    ids = np.random.default_rng(0).integers(0, len(graph.tensors[tokens.table]), size=max(PROMPTS))
    timings, first, peak = [], 0.0, None
    for threads in arguments.threads:
        engine = FastEngine(graph, not arguments.no_strict, threads or None)
        engine.read(ids[:16])
        first = first or time.perf_counter() - begin
        timings += measure(graph, engine, threads, ids, arguments.repeats)
        peak = peak or peak_rss_mb()
        check_equal(graph, engine, ids)
        engine.close()
    if not arguments.no_numpy:
        timings += measure_numpy(graph, ids)
    if arguments.checkpoint:
        timings += measure_float(arguments.checkpoint, graph, ids, arguments.repeats)
    machine = {
        "read bandwidth, GB/s": round(read_bandwidth(), 1),
        "fp32 GEMM, GMAC/s": round(float_rate(), 1),
        "peak memory of the kernels' part, MB": peak and round(peak, 1),
        "load and first 16 tokens, without imports, s": round(first, 2),
    }
    if arguments.json:
        print(json.dumps({"machine": machine, "timings": [asdict(each) for each in timings]}, indent=1))
        return
    print(table(timings))
    print("\n".join(f"{name}: {value}" for name, value in machine.items()))


if __name__ == "__main__":
    main()

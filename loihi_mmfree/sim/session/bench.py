"""How fast a network runs on this machine: prefill and decode apart, beside what the machine can do."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from loihi_mmfree import defaults
from loihi_mmfree.errors import UsageError
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.memory import peak_rss_mb
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.backend import Backend
from loihi_mmfree.sim.session.opening import Choice, open_backend, require_known

MOST_TOKENS, MOST_REPEATS = 10**6, 10**4
_READ_BYTES = 256 * 2**20
_GEMM_SIZE = 1024


@dataclass(frozen=True)
class Spread:
    """Median of several repeats, with the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize repeats."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.least:.1f} to {self.greatest:.1f})"


@dataclass(frozen=True)
class MachineSpeed:
    """What this machine can do, measured in the same run.

    Parameters
    ----------
    cores : int
        Processors this process may use.
    read_gb_per_s : float
        Reading memory with one thread a core, in 1e9 bytes a second.
    float32_gmac_per_s : float
        Square float32 matrix product of NumPy's BLAS: exact for integers below 2**24.
    """

    cores: int
    read_gb_per_s: float
    float32_gmac_per_s: float


@dataclass(frozen=True)
class Measurement:
    """One configuration.

    Parameters
    ----------
    prefill_tokens_per_s, decode_tokens_per_s : Spread
        Prompt tokens read in one call, and tokens read one by one after it.
    first_token_seconds : Spread
        From the call with the prompt to its last logits, network open.
    weight_gb_per_s, gmac_per_s : float
        Packed weights read and multiply-accumulates done a second in decoding (median).
    prefill_gmac_per_s : float
    start_seconds : float
        Opening the backend.
    peak_rss_mb : float or None
        Of this process so far.
    """

    backend: str
    granularity: str
    prompt_tokens: int
    new_tokens: int
    repeats: int
    prefill_tokens_per_s: Spread
    decode_tokens_per_s: Spread
    first_token_seconds: Spread
    weight_gb_per_s: float
    gmac_per_s: float
    prefill_gmac_per_s: float
    start_seconds: float
    peak_rss_mb: float | None


@dataclass(frozen=True, repr=False)
class Bench:
    """What was measured, beside what the machine can do.

    Parameters
    ----------
    machine : MachineSpeed
    rows : tuple of Measurement
    """

    machine: MachineSpeed
    rows: tuple[Measurement, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return asdict(self)

    def __str__(self) -> str:
        """A table in Markdown."""
        machine = self.machine
        lines = [
            f"Machine: {machine.cores} cores, reads {machine.read_gb_per_s:.1f} GB/s, float32 matrix product "
            f"{machine.float32_gmac_per_s:.0f} GMAC/s. Tokens/s as median (least to greatest).",
            "",
            "| backend | granularity | prompt | prefill tokens/s | decode tokens/s | weights GB/s | decode GMAC/s "
            "| prefill GMAC/s | start s | peak MB |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row.backend} | {row.granularity} | {row.prompt_tokens} | {row.prefill_tokens_per_s} "
            f"| {row.decode_tokens_per_s} | {row.weight_gb_per_s:.2f} | {row.gmac_per_s:.1f} "
            f"| {row.prefill_gmac_per_s:.1f} | {row.start_seconds:.2f} | {_rounded(row.peak_rss_mb)} |"
            for row in self.rows
        ]
        return "\n".join(lines)

    __repr__ = __str__


def _rounded(megabytes: float | None) -> str:
    return "not known" if megabytes is None else f"{megabytes:.0f}"


def measure_machine() -> MachineSpeed:
    """Measure read bandwidth and matrix product of this machine; takes about a second."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [np.ones(_READ_BYTES // cores // 8, dtype=np.int64) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        read = _best_seconds(lambda: list(pool.map(np.sum, parts)))
    matrix = np.ones((_GEMM_SIZE, _GEMM_SIZE), dtype=np.float32)
    product = _best_seconds(lambda: matrix @ matrix)
    bytes_read = sum(part.nbytes for part in parts)
    return MachineSpeed(cores, bytes_read / read / 1e9, _GEMM_SIZE**3 / product / 1e9)


def _best_seconds(function: Callable[[], object], repeats: int = 7) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def measure(
    net: Net,
    backends: Sequence[str],
    granularities: Sequence[str],
    prompt_tokens: Sequence[int],
    new_tokens: int,
    repeats: int,
    warm_up: int,
    progress: Callable[[str, int, int], None],
) -> Bench:
    """Measure every combination of what `require_measurable` let pass; granularity is for Lava only.

    Parameters
    ----------
    net : Net
    backends, granularities : sequence of str
        Of the engine also `engine:numpy`, its path over NumPy; of torch also `torch:cuda` and `torch:cpu`.
    prompt_tokens : sequence of int
        Lengths of the prompt, whose ids are drawn from a fixed seed.
    new_tokens : int
        Tokens read one by one after the prompt.
    repeats, warm_up : int
        Counted and uncounted runs of each combination.
    progress : callable
        Called with stage, done, total.
    """
    machine = measure_machine()
    places = [
        (backend, granularity)
        for backend in backends
        for granularity in (granularities if backend == "sim" else granularities[:1])
    ]
    combinations = list(itertools.product(places, prompt_tokens))
    found = []
    for done, ((backend, granularity), length) in enumerate(combinations):
        progress("bench", done, len(combinations))
        found.append(_measure_one(net, backend, granularity, length, new_tokens, repeats, warm_up))
    progress("bench", len(combinations), len(combinations))
    return Bench(machine, tuple(found))


def require_measurable(
    backends: Sequence[str],
    granularities: Sequence[str],
    prompt_tokens: Sequence[int],
    new_tokens: int,
    repeats: int,
    warm_up: int,
) -> None:
    """Refuse a request before anything is read for it; parameters are those of `measure`.

    Raises
    ------
    UsageError
        A list is empty, a name is unknown, or a number is none that can be measured.
    """
    for name, values in (
        ("backends", backends),
        ("granularities", granularities),
        ("prompt tokens", prompt_tokens),
    ):
        if not values:
            raise UsageError(f"bench: the list of {name} is empty")
    for backend in backends:
        require_known("backend", backend, defaults.MEASURABLE_BACKENDS)
    for granularity in granularities:
        require_known("granularity", granularity, defaults.GRANULARITIES)
    counts = [("prompt tokens", each, 1, MOST_TOKENS) for each in prompt_tokens]
    counts += [("new tokens", new_tokens, 1, MOST_TOKENS), ("repeats", repeats, 1, MOST_REPEATS)]
    for name, value, least, most in (*counts, ("warm-up", warm_up, 0, MOST_REPEATS)):
        if not least <= value <= most:
            raise UsageError(f"bench: {name} is {value}; it must be {least} to {most}")


def _measure_one(
    net: Net, backend: str, granularity: str, length: int, new_tokens: int, repeats: int, warm_up: int
) -> Measurement:
    began = time.perf_counter()
    opened = open_backend(net, _choice(backend, granularity))
    started = time.perf_counter() - began
    ids = np.random.default_rng(0).integers(net.vocab_size, size=length + new_tokens)
    try:
        runs = [_timed_run(opened, ids[:length], ids[length:]) for _ in range(warm_up + repeats)][warm_up:]
    finally:
        opened.close()
    projections = [node for node in net.graph if isinstance(node, TernarySynapse)]
    macs = sum(node.rows * node.columns for node in projections)
    packed_bytes = sum(net.graph.tensors[node.codes].nbytes for node in projections)
    prefill = Spread.of([length / seconds for seconds, _ in runs])
    decode = Spread.of([new_tokens / seconds for _, seconds in runs])
    return Measurement(
        backend=backend,
        granularity=granularity if backend == "sim" else "-",
        prompt_tokens=length,
        new_tokens=new_tokens,
        repeats=repeats,
        prefill_tokens_per_s=prefill,
        decode_tokens_per_s=decode,
        first_token_seconds=Spread.of([seconds for seconds, _ in runs]),
        weight_gb_per_s=packed_bytes * decode.median / 1e9,
        gmac_per_s=macs * decode.median / 1e9,
        prefill_gmac_per_s=macs * prefill.median / 1e9,
        start_seconds=started,
        peak_rss_mb=peak_rss_mb(),
    )


def _choice(backend: str, granularity: str) -> Choice:
    """What a name of `MEASURABLE_BACKENDS` means: where torch computes, with what the engine does."""
    kind, _, detail = backend.partition(":")
    if kind == "torch":
        return Choice(kind, granularity, device=detail or None)
    return Choice(kind, granularity, kernels=detail or defaults.KERNEL)


def _timed_run(opened: Backend, prompt: np.ndarray, following: np.ndarray) -> tuple[float, float]:
    """Seconds for the prompt, and for the following tokens one by one."""
    began = time.perf_counter()
    opened.read(prompt, _ignore)
    read = time.perf_counter()
    for token in following:
        opened.read(np.array([token]), _ignore)
    return read - began, time.perf_counter() - read


def _ignore(_: np.ndarray) -> None:
    """Take logits, as a run takes those of every token, and do nothing with them."""

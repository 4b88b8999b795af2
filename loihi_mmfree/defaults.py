"""What a run is unless it is told otherwise, and the names it knows: one place for command line and Python."""

from __future__ import annotations

BACKENDS = ("sim", "engine", "torch", "rtl", "loihi2")
GRANULARITIES = ("operator", "block", "network")
RUNTIMES = ("inprocess", "stock")
KERNELS = ("compiled", "numpy")

BACKEND, GRANULARITY, RUNTIME, KERNEL = BACKENDS[0], GRANULARITIES[0], RUNTIMES[0], KERNELS[0]
WEIGHTS_PER_CYCLE, LANES = 128, 16
"""Of a core in RTL."""
NEW_TOKENS = 64
SEED = 0

EXPORT_FORMATS = ("netx",)
EXPORT_FORMAT = EXPORT_FORMATS[0]

WINDOW = 512
"""Tokens of a window of a text that is evaluated."""
BUDGET_WINDOWS, BUDGET_TRIALS = 40, 40
"""Windows that formats are judged on, and formats that are tried, at most."""
SWEEP_WINDOWS = 40
SWEEP_BITS, SWEEP_ZEROS = "12,8", "0,0.1,0.2,0.3"
"""Windows that networks of a sweep are evaluated on, at most; bits of projections' inputs; shares of zeros."""

MEASURABLE_BACKENDS = ("engine", "engine:numpy", "sim", "torch", "torch:cuda", "torch:cpu", "rtl", "loihi2")
"""What a bench measures: every backend, of the engine also its path over NumPy, of torch a device of its own."""
BENCH_BACKENDS = ("engine",)
BENCH_GRANULARITIES = ("block",)
BENCH_PROMPT_TOKENS = (16, 128)
BENCH_NEW_TOKENS = 32
BENCH_REPEATS = 5
BENCH_WARM_UP = 1

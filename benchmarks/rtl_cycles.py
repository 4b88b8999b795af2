"""Cycles a token of the published shapes as cores in RTL, by the formula that is held against simulation.

One block of each shape is lowered with random weights, which decide no cycle, and repeated as often as the model
has blocks. With --simulate, that one block also runs in Verilator, against the engine and against the formula.

    python benchmarks/random_checkpoint.py 370M --layers 1 random-370M-block/
    python benchmarks/rtl_cycles.py 370M random-370M-block/ --simulate
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.checkpoint.config import PUBLISHED_CONFIGS
from loihi_mmfree.compiler.pipeline import run_passes
from loihi_mmfree.cost.core_cycles import SIZES
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.loihi2.hardware import LOIHI2
from loihi_mmfree.quantize.calibration import calibrate
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.rtl.build import compile_programs
from loihi_mmfree.rtl.parameters import Size
from loihi_mmfree.rtl.timing import Work, timing
from loihi_mmfree.sim.engine.specification import Engine
from loihi_mmfree.sim.rtl import RtlCore

CALIBRATION_TOKENS = 4


def simulate(graph: Graph, size: Size) -> None:
    """Run two tokens on the core and hold logits and cycles against engine and formula."""
    ids = np.arange(2)
    with RtlCore(graph, size) as core:
        found, cycles = core.process(ids), core.token_cycles
    assert np.array_equal(found, Engine(graph).process(ids))
    assert set(cycles) == {timing(Work.of(compile_programs(graph, size))).cycles}
    print(f"one block in simulation: every logit as the engine's, {cycles[0]:,} cycles a token as the formula's")


def main() -> None:
    """Print a row for each size of a core."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=list(PUBLISHED_CONFIGS))
    parser.add_argument("checkpoint", type=Path, help="of one block of that shape")
    parser.add_argument("--simulate", action="store_true")
    given = parser.parse_args()
    checkpoint = open_checkpoint(given.checkpoint)
    ids = np.random.default_rng(0).integers(checkpoint.config.vocab_size, size=CALIBRATION_TOKENS)
    graph = run_passes(checkpoint, calibrate(checkpoint, ids, QuantizationConfig()).formats, LOIHI2)
    blocks = PUBLISHED_CONFIGS[given.shape].num_hidden_layers
    print("| weights a cycle | lanes | cycles a token | blocks only | their weights alone | share |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        found = timing(Work.of(compile_programs(graph, size)).repeated(blocks))
        print(
            f"| {size.weights_per_cycle} | {size.lanes} | {found.cycles:,} | {found.blocks_cycles:,} | "
            f"{found.blocks_product_cycles:,} | {found.utilisation:.1%} |"
        )
    if given.simulate:
        simulate(graph, Size())


if __name__ == "__main__":
    main()

"""The product unit: ternary dot products, whatever holds its streams back."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("amaranth")

from amaranth.sim import Simulator

from loihi_mmfree.fixedpoint.ternary import pack_ternary, ternary_dot
from loihi_mmfree.rtl.hardware.products import ProductUnit
from loihi_mmfree.rtl.instructions import PRODUCT_BITS, ProductInstruction
from loihi_mmfree.rtl.parameters import CHUNK_BITS, CoreParameters, Depths, Size, Widths

WEIGHTS, LANES = 32, 4
WIDTHS = Widths(40, 24, 17, 17, activation=12, accumulator=20, state=16, constant=17, table=17)
PARAMETERS = CoreParameters(Size(WEIGHTS, LANES), WIDTHS, Depths(16, 4, 16, 16, 16, 16, activations=8), (0, 1))


def words(instruction: ProductInstruction) -> list[int]:
    encoded = instruction.encode()
    return [(encoded >> at) & (2**CHUNK_BITS - 1) for at in range(0, PRODUCT_BITS, CHUNK_BITS)]


def run(activations: np.ndarray, codes: np.ndarray, stalls: float) -> np.ndarray:
    """Two products over the same activations: one into the accumulators, one out as logits."""
    unit = ProductUnit(PARAMETERS)
    rows, columns = codes.shape
    beats = columns // WEIGHTS
    shape = {"rows": rows, "words": beats, "source": 1, "after": 0}
    program = [ProductInstruction(target=3, logits=last, **shape) for last in (False, True)]
    stream = pack_ternary(np.concatenate([codes, codes])).reshape(-1, WEIGHTS // 4)
    random = np.random.default_rng(0)
    sums, logits = np.zeros(rows, dtype=np.int64), []

    async def testbench(context):  # type: ignore[no-untyped-def]
        context.set(unit.load_enable, 1)
        for number, instruction in enumerate(program):
            for chunk, word in enumerate(words(instruction)):
                context.set(unit.load_address, number * 4 + chunk)
                context.set(unit.load_data, word)
                await context.tick()
        context.set(unit.load_enable, 0)
        context.set(unit.count, len(program))
        context.set(unit.write, 1)
        context.set(unit.write_base, 1)
        for position in range(columns // LANES):
            context.set(unit.write_position, position)
            for lane, value in enumerate(unit.values):
                context.set(value, int(activations[position * LANES + lane]))
            await context.tick()
        context.set(unit.write, 0)
        context.set(unit.start, 1)
        await context.tick()
        context.set(unit.start, 0)
        taken = 0
        while context.get(unit.running):
            offered = taken < len(stream) and random.random() >= stalls
            context.set(unit.weights_valid, int(offered))
            if offered:
                context.set(unit.weights, int.from_bytes(stream[taken].tobytes(), "little"))
            context.set(unit.logits_ready, int(random.random() >= stalls))
            taken += int(offered and context.get(unit.weights_ready))
            if context.get(unit.logits_valid) and context.get(unit.logits_ready):
                logits.append(context.get(unit.sum))
            if context.get(unit.sum_write):
                assert context.get(unit.sum_base) == 3
                sums[context.get(unit.sum_row)] = context.get(unit.sum)
            await context.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return np.stack([sums, np.array(logits)])


@pytest.mark.parametrize("stalls", [0.0, 0.5])
def test_products_are_exact_under_stalls(stalls: float) -> None:
    random = np.random.default_rng(1)
    activations, codes = random.integers(-2047, 2048, 96), random.integers(-1, 2, (11, 96)).astype(np.int8)
    expected = ternary_dot(activations, codes)
    np.testing.assert_array_equal(run(activations, codes, stalls), [expected, expected])


def test_the_largest_sums_fit() -> None:
    activations = np.full(96, -2047)
    codes = np.array([[1] * 96, [-1] * 96, [0] * 96], dtype=np.int8)
    np.testing.assert_array_equal(run(activations, codes, 0.0)[1], [-96 * 2047, 96 * 2047, 0])

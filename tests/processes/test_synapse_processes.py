from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.models import PyDelayDenseModelBitAcc, PyDenseModelBitAcc
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.io.source import RingBuffer
from lava.utils.weightutils import SignMode

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.fixedpoint.program import ProgramBuilder
from loihi_mmfree.fixedpoint.ternary import pack_ternary
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup, Role
from loihi_mmfree.ir.synapses import TernarySynapse
from loihi_mmfree.processes.synapse import Delay, TernaryDenseModel, ternary_dense
from loihi_mmfree.sim.engine.part_executor import FastExecutors
from loihi_mmfree.sim.lava.runtimes.inprocess import InProcessRuntime

Run = Callable[..., np.ndarray]

STOCK = Loihi2SimCfg(
    select_tag="fixed_pt",
    exception_proc_model_map={Dense: PyDenseModelBitAcc, DelayDense: PyDelayDenseModelBitAcc},
)
OURS = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map={Dense: TernaryDenseModel})


def codes_of(kind: str, rows: int, columns: int, random: np.random.Generator) -> np.ndarray:
    codes = random.integers(-1, 2, (rows, columns)).astype(np.int8)
    match kind:
        case "nonnegative":
            codes = np.abs(codes)
        case "nonpositive":
            codes = -np.abs(codes)
        case "zero rows":
            codes[::2] = 0
        case "ones":
            codes = np.ones_like(codes)
    return codes


@pytest.mark.parametrize("kind", ["mixed", "nonnegative", "nonpositive", "zero rows", "ones"])
@pytest.mark.parametrize("shape", [(9, 33), (1, 16), (16, 1)])
def test_our_model_equals_stock_dense_in_every_time_step(
    kind: str, shape: tuple[int, int], random: np.random.Generator, run_steps: Run
) -> None:
    codes = codes_of(kind, *shape, random)
    messages = random.integers(-2047, 2048, (12, shape[1]))
    messages[3:6] = 0
    outputs = []
    for config in (STOCK, OURS):
        dense = ternary_dense("synapse", codes, 24)
        outputs.append(run_steps(dense.s_in, dense.a_out, messages, config))
    np.testing.assert_array_equal(outputs[1], outputs[0])
    np.testing.assert_array_equal(outputs[1][1:], messages[:-1] @ codes.T.astype(np.int64))
    assert not outputs[1][0].any()


def packed_synapse(codes: np.ndarray, bits: int, executors: FastExecutors) -> Dense:
    """A Dense process that sums with the compiled kernels what a group sends with so many bits."""
    rows, columns = codes.shape
    builder = ProgramBuilder()
    builder.send("out", builder.input("value", bits))
    group = NeuronGroup("group", (), Role.RELAY, columns, builder.build(), (), (), ())
    node = TernarySynapse("synapse", (group.out(),), rows, columns, "codes", 0, columns)
    graph = Graph((group, node), {"codes": pack_ternary(codes)})
    return ternary_dense("synapse", codes, 24, executors.of_node(graph, node, True))


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("shape", [(9, 33), (1, 16), (130, 300)])
def test_sums_from_packed_weights_equal_stock_dense_in_every_time_step(
    bits: int, shape: tuple[int, int], random: np.random.Generator, run_steps: Run
) -> None:
    codes = codes_of("mixed", *shape, random)
    messages = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (9, shape[1]))
    messages[3:5] = 0
    executors = FastExecutors()
    stock, ours = ternary_dense("synapse", codes, 24), packed_synapse(codes, bits, executors)
    expected = run_steps(stock.s_in, stock.a_out, messages, STOCK)
    np.testing.assert_array_equal(run_steps(ours.s_in, ours.a_out, messages, OURS), expected)
    executors.close()


def test_weights_that_the_host_writes_take_the_place_of_the_packed_ones(random: np.random.Generator) -> None:
    codes = codes_of("mixed", 3, 8, random)
    executors = FastExecutors()
    dense = packed_synapse(codes, 12, executors)
    messages = random.integers(-2047, 2048, (4, 8))
    source = RingBuffer(data=messages.T)
    source.s_out.connect(dense.s_in)
    dense.a_out.flag_external_pipe()
    with InProcessRuntime(source, OURS) as runtime:
        runtime.begin(2)
        before = [runtime.receive(dense.a_out) for _ in range(2)]
        runtime.wait()
        dense.weights.set(-2 * codes)
        runtime.begin(2)
        after = [runtime.receive(dense.a_out) for _ in range(2)]
    np.testing.assert_array_equal(before[1], codes @ messages[0])
    # What was summed before the weights changed is under way already.
    np.testing.assert_array_equal(after, [codes @ messages[1], -codes @ messages[2]])
    executors.close()


def test_messages_too_wide_for_float32_are_summed_exactly(random: np.random.Generator, run_steps: Run) -> None:
    codes = codes_of("mixed", 5, 64, random)
    messages = random.integers(-(2**23), 2**23, (6, 64))
    dense = ternary_dense("synapse", codes, 24)
    outputs = run_steps(dense.s_in, dense.a_out, messages, OURS)
    np.testing.assert_array_equal(outputs[1:], messages[:-1] @ codes.T.astype(np.int64))


def test_the_model_refuses_a_dense_process_of_other_exponent_or_sign(run_steps: Run) -> None:
    dense = Dense(weights=np.eye(3, dtype=np.int8), num_message_bits=24, sign_mode=SignMode.MIXED, name="raw")
    with pytest.raises(SimulationError, match=r"raw \(Dense\).*ternary_dense"):
        run_steps(dense.s_in, dense.a_out, np.ones((2, 3), dtype=np.int64), OURS)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_delay_equals_stock_delay_dense_with_identity_weights(
    steps: int, random: np.random.Generator, run_steps: Run
) -> None:
    messages = random.integers(-(2**20), 2**20, (14, 6))
    stock = DelayDense(
        weights=2 * np.eye(6, dtype=int),
        delays=steps - 1,
        weight_exp=-1,
        sign_mode=SignMode.MIXED,
        num_message_bits=24,
    )
    ours = Delay(name="delay", size=6, steps=steps)
    expected = run_steps(stock.s_in, stock.a_out, messages, STOCK)
    found = run_steps(ours.s_in, ours.a_out, messages, OURS)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found[steps:], messages[:-steps])
    assert not found[:steps].any()


def test_a_delay_of_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 time step"):
        Delay(name="delay", size=2, steps=0)

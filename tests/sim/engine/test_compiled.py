"""The engine on compiled kernels gives every bit that the NumPy engine gives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup, Role
from loihi_mmfree.ir.part import Part
from loihi_mmfree.ir.synapses import Delay
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.engine.plan import NotPlannedError, make_plan
from loihi_mmfree.sim.engine.specification import Engine

pytest.importorskip("numba")

from loihi_mmfree.sim.engine.compiled import FastEngine

VOCABULARY = 512


def ids_of(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCABULARY, size=length)


@pytest.fixture(scope="module", params=[1, 2, 3])
def engines(request: pytest.FixtureRequest, tiny_net: Net) -> Iterator[tuple[Engine, FastEngine]]:
    """The specification, and the fast engine with 1 to 3 threads; tests reset them."""
    fast = FastEngine(tiny_net.graph, strict=True, threads=request.param)
    yield Engine(tiny_net.graph, strict=True), fast
    fast.close()


def states(engine: Engine | FastEngine) -> dict[tuple[str, str], list[int]]:
    groups = (node for node in engine.graph if isinstance(node, NeuronGroup))
    return {
        (node.name, name): value.tolist() for node in groups for name, value in engine.state(node.name).items()
    }


@pytest.mark.parametrize("length", [1, 2, 7, 8, 17, 64, 128, 130])
def test_prompts_give_equal_logits_states_and_counters(engines: tuple[Engine, FastEngine], length: int) -> None:
    for engine in engines:
        engine.reset()
    specification, fast = engines
    before = specification.counters, fast.counters
    np.testing.assert_array_equal(fast.process(ids_of(length)), specification.process(ids_of(length)))
    assert states(fast) == states(specification)
    after = specification.counters, fast.counters
    assert after[0].saturations - before[0].saturations == after[1].saturations - before[1].saturations
    assert fast.counters.overflows == 0


@pytest.mark.parametrize("lengths", [(1, 1, 1), (9, 1, 20), (64, 66), (3, 127)])
def test_a_prompt_may_come_in_parts(engines: tuple[Engine, FastEngine], lengths: tuple[int, ...]) -> None:
    specification, fast = engines
    specification.reset()
    fast.reset()
    ids = ids_of(sum(lengths), seed=1)
    parts = np.split(ids, np.cumsum(lengths)[:-1])
    found = np.concatenate([fast.process(part) for part in parts])
    np.testing.assert_array_equal(found, specification.process(ids))


def test_generation_goes_on_from_a_prompt(engines: tuple[Engine, FastEngine]) -> None:
    _specification, _fast = engines
    chosen: list[list[int]] = []
    for engine in engines:
        engine.reset()
        random, token = np.random.default_rng(5), engine.process(ids_of(20))[-1].argmax()
        chosen.append([])
        for _ in range(12):
            logits = engine.process(np.array([token]))[-1] * engine.logit_scale
            token = (logits + random.gumbel(size=VOCABULARY)).argmax()
            chosen[-1].append(int(token))
    assert chosen[0] == chosen[1]


def test_reset_forgets(engines: tuple[Engine, FastEngine]) -> None:
    _, fast = engines
    fast.reset()
    first = fast.process(ids_of(10))
    fast.process(ids_of(30, seed=2))
    fast.reset()
    np.testing.assert_array_equal(fast.process(ids_of(10)), first)


@pytest.mark.parametrize("lengths", [(1,) * 16, (70, 0, 13, 1, 5), (3, 2)])
def test_sequences_read_together_give_what_each_gives_alone(
    engines: tuple[Engine, FastEngine], lengths: tuple[int, ...]
) -> None:
    """In two calls, the second of which goes on from the states that the first left."""
    specification, fast = engines
    calls = [[ids_of(length, seed) for seed, length in enumerate(each)] for each in (lengths, lengths[::-1])]
    found: list[list[np.ndarray]] = [[] for _ in lengths]

    def take(logits: np.ndarray, sequences: np.ndarray, positions: np.ndarray) -> None:
        for row, sequence, position in zip(logits, sequences, positions, strict=True):
            assert position == len(found[sequence]) - before[sequence]
            found[sequence].append(row.copy())

    fast.begin(len(lengths))
    for call in calls:
        before = list(map(len, found))
        last = fast.read_batch(call, take)
    for number, parts in enumerate(zip(*calls, strict=True)):
        specification.reset()
        expected = specification.process(np.concatenate(parts))
        np.testing.assert_array_equal(np.stack(found[number]), expected)
        np.testing.assert_array_equal(last[number], expected[-1] if len(parts[1]) else 0)
        for node in (node for node in specification.graph if node.states):
            for name, value in specification.state(node.name).items():
                np.testing.assert_array_equal(fast.state(node.name, number)[name], value)
    fast.begin(1)


@pytest.mark.parametrize("length", [1, 5, 8, 40, 131])
def test_last_logits_alone(engines: tuple[Engine, FastEngine], length: int) -> None:
    _, fast = engines
    fast.reset()
    everything = fast.process(ids_of(length))
    fast.reset()
    np.testing.assert_array_equal(fast.read(ids_of(length)), everything[-1])
    following = fast.process(ids_of(1, seed=3))
    fast.reset()
    np.testing.assert_array_equal(fast.process(np.append(ids_of(length), ids_of(1, seed=3)))[-1:], following)


@pytest.mark.parametrize("length", [1, 9, 130])
def test_logits_come_in_pieces_of_bounded_size_and_the_last_is_returned(
    engines: tuple[Engine, FastEngine], length: int
) -> None:
    for engine in engines:
        pieces: list[np.ndarray] = []
        engine.reset()
        last = engine.read(ids_of(length), lambda piece, pieces=pieces: pieces.append(piece.copy()))
        engine.reset()
        np.testing.assert_array_equal(np.concatenate(pieces), engine.process(ids_of(length)))
        np.testing.assert_array_equal(last, pieces[-1][-1])
        assert max(map(len, pieces)) <= 64


def test_the_last_logits_are_the_callers_own(engines: tuple[Engine, FastEngine]) -> None:
    for engine in engines:
        engine.reset()
        first = engine.read(ids_of(3))
        before = first.copy()
        engine.read(ids_of(4, seed=4))
        np.testing.assert_array_equal(first, before)


def test_steps_count_the_tokens_read(tiny_net: Net) -> None:
    fast = FastEngine(tiny_net.graph)
    fast.process(ids_of(9))
    fast.process(ids_of(1))
    assert fast.steps == 10


def narrow_embedding(graph: Graph) -> Graph:
    """The graph with a group that declares its first register narrower than the values it gets."""
    group = next(node for node in graph if isinstance(node, NeuronGroup))
    first = replace(group.program.instructions[0], bits=3)
    program = replace(group.program, instructions=(first, *group.program.instructions[1:]))
    return graph.with_nodes(replace(node, program=program) if node is group else node for node in graph)


@pytest.mark.parametrize("length", [1, 20])
def test_overflows_are_counted_as_the_specification_counts_them(tiny_net: Net, length: int) -> None:
    graph = narrow_embedding(tiny_net.graph)
    specification, fast = Engine(graph, strict=True), FastEngine(graph, strict=True)
    np.testing.assert_array_equal(fast.process(ids_of(length)), specification.process(ids_of(length)))
    assert fast.counters == specification.counters
    assert fast.counters.overflows > 0


def test_an_activation_wider_than_declared_is_reported(tiny_net: Net) -> None:
    group = next(node for node in tiny_net.graph if isinstance(node, NeuronGroup) and node.role is Role.SCALE)
    outputs = tuple(replace(port, bits=4) for port in group.program.outputs)
    lying = replace(group, program=replace(group.program, outputs=outputs))
    graph = tiny_net.graph.with_nodes(lying if node is group else node for node in tiny_net.graph)
    with pytest.raises(SimulationError, match=f"{group.name}: an activation did not fit its declared width"):
        FastEngine(graph).process(ids_of(20))


def test_activations_too_wide_for_the_kernels_are_refused(tiny_net: Net) -> None:
    group = next(node for node in tiny_net.graph if isinstance(node, NeuronGroup) and node.role is Role.SCALE)
    outputs = tuple(replace(port, bits=30) for port in group.program.outputs)
    wide = replace(group, program=replace(group.program, outputs=outputs))
    graph = tiny_net.graph.with_nodes(wide if node is group else node for node in tiny_net.graph)
    with pytest.raises(NotPlannedError, match="30 bits are too wide"):
        make_plan(Part.between_the_hosts_ends(graph), 8, 1, strict=False)


def test_delays_cost_nothing(tiny_net: Net) -> None:
    graph = tiny_net.graph
    assert any(isinstance(node, Delay) for node in graph)
    delays = {node.name for node in graph if isinstance(node, Delay)}
    assert not delays & set(make_plan(Part.between_the_hosts_ends(graph), 8, 1, strict=False).names)


def test_buffers_do_not_grow_with_the_tokens_read(tiny_net: Net) -> None:
    fast = FastEngine(tiny_net.graph)
    fast.process(ids_of(200))
    sizes = [value.nbytes for value in vars(fast).values() if isinstance(value, np.ndarray)]
    for _ in range(3):
        fast.process(ids_of(200))
    assert [value.nbytes for value in vars(fast).values() if isinstance(value, np.ndarray)] == sizes


def test_the_plan_and_the_numpy_engine_do_without_numba() -> None:
    script = (
        "import sys\n"
        "from loihi_mmfree.sim.engine import compiled, plan, specification\n"
        "assert not {'numba', 'llvmlite'} & set(sys.modules), 'imported early'"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

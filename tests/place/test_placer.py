"""Placing: every row once, no limit exceeded, counted anew from the graph and the placement alone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from loihi_mmfree.errors import DoesNotFitError, UsageError
from loihi_mmfree.ir.graph import Graph, Node
from loihi_mmfree.ir.nodes import TokenIn
from loihi_mmfree.ir.synapses import Delay
from loihi_mmfree.loihi2.hardware import HALA_POINT, KAPOHO_POINT, LOIHI2, OHEO_GULCH, ChipSpec, Figure
from loihi_mmfree.place.check import check, core_usages
from loihi_mmfree.place.layout import Request
from loihi_mmfree.place.placement import Placement
from loihi_mmfree.place.placer import place

MakeNetwork = Callable[..., Graph]
SHAPE_370M = (24, 1024, 2816, 32000)


def changed(spec: ChipSpec, **values: int) -> ChipSpec:
    return replace(spec, **{name: Figure(value, "", "test", "assumed") for name, value in values.items()})


# Systems on which networks of a few neurons meet every limit: 4 x 4 chips of 4 x 4 cores.
SMALL = changed(LOIHI2, chips=16, chip_rows=4, chip_columns=4, cores_per_chip=14, mesh_rows=4, mesh_columns=4)


Recount = Callable[[Graph, ChipSpec, Placement], list[dict[str, int]]]


def fullest(cores: list[dict[str, int]], spec: ChipSpec) -> int:
    """What a step waits for: the operations of a core or its messages, in operations."""
    weight = spec.message_operations.value
    return max(max(core["operations"], weight * core["input_axons"]) for core in cores)


LIMITS = {
    "neurons": lambda spec: spec.neurons_per_core.value,
    "synapse_bytes": lambda spec: spec.synapse_memory_bytes.value,
    "state_bytes": lambda spec: spec.core_memory_bytes.value - spec.synapse_memory_bytes.value,
    "input_axons": lambda spec: spec.input_axons.value,
    "output_axons": lambda spec: spec.output_axons.value,
    "program_bytes": lambda spec: spec.program_memory_bytes.value,
    "table_bytes": lambda spec: spec.table_memory_bytes.value,
    "core_memory_bytes": lambda spec: spec.core_memory_bytes.value,
}

shapes = st.tuples(
    st.integers(1, 2), st.integers(1, 4).map(lambda n: 4 * n), st.integers(1, 5).map(lambda n: 4 * n), st.just(30)
)


def small_system(**values: int) -> ChipSpec:
    rest = values.pop("rest")
    return changed(SMALL, core_memory_bytes=values["synapse_memory_bytes"] + rest, **values)


systems = st.builds(
    small_system,
    cores_per_chip=st.integers(6, 14),
    neurons_per_core=st.integers(20, 100),
    synapse_memory_bytes=st.integers(300, 2000),
    rest=st.integers(2500, 6000),
    input_axons=st.integers(40, 150),
    output_axons=st.integers(60, 400),
)
requests = st.builds(
    Request,
    weight_bits=st.sampled_from([2, 8]),
    head=st.sampled_from(["host", "chip"]),
    objective=st.sampled_from(["chips", "speed"]),
    straddle=st.booleans(),
)
some_nets = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def placed(
    make_network: MakeNetwork, shape: tuple[int, ...], spec: ChipSpec, request: Request
) -> tuple[Graph, Placement]:
    graph = make_network(*shape)
    try:
        return graph, place(graph, spec, request)
    except DoesNotFitError:
        assume(False)
        raise


class TestAnyNetwork:
    @some_nets
    @given(shape=shapes, spec=systems, request_=requests)
    def test_every_neuron_that_belongs_on_chip_is_placed_exactly_once(
        self,
        make_network: MakeNetwork,
        on_chip: Callable[..., list[Node]],
        shape: tuple[int, ...],
        spec: ChipSpec,
        request_: Request,
    ) -> None:
        graph, placement = placed(make_network, shape, spec, request_)
        found = sorted(
            (shard.node, j)
            for core in placement.cores
            for shard in core.shards
            for j in range(shard.first, shard.first + shard.count)
        )
        assert found == sorted((node.name, j) for node in on_chip(graph, request_.head) for j in range(node.size))

    @some_nets
    @given(shape=shapes, spec=systems, request_=requests)
    def test_no_core_holds_more_than_it_may_or_is_reported_when_its_synapses_are_counted_one_by_one(
        self,
        make_network: MakeNetwork,
        recount: Recount,
        shape: tuple[int, ...],
        spec: ChipSpec,
        request_: Request,
    ) -> None:
        graph, placement = placed(make_network, shape, spec, request_)
        counted = recount(graph, spec, placement)
        for used, core in zip(core_usages(graph, spec, placement), counted, strict=True):
            assert {name for name, limit in LIMITS.items() if core[name] > limit(spec)} == set()
            assert used == {name: (core[name], limit(spec)) for name, limit in LIMITS.items()}
        assert all(core.chip < spec.chips.value for core in placement.cores)
        assert all(core.core < spec.cores_per_chip.value for core in placement.cores)

    @some_nets
    @given(shape=shapes, spec=systems, request_=requests)
    def test_a_block_lies_on_one_chip_unless_it_may_straddle(
        self, make_network: MakeNetwork, shape: tuple[int, ...], spec: ChipSpec, request_: Request
    ) -> None:
        _, placement = placed(make_network, shape, spec, replace(request_, straddle=False))
        chips = defaultdict(set)
        for core in placement.cores:
            for shard in core.shards:
                if shard.node.startswith("layers."):
                    chips[shard.node.split(".")[1]].add(core.chip)
        assert {len(each) for each in chips.values()} == {1}

    @some_nets
    @given(shape=shapes, spec=systems, request_=requests)
    def test_the_same_network_gives_the_same_bytes(
        self, make_network: MakeNetwork, shape: tuple[int, ...], spec: ChipSpec, request_: Request
    ) -> None:
        graph, placement = placed(make_network, shape, spec, request_)
        again = place(Graph(graph.nodes, graph.tensors), spec, request_)
        assert json.dumps(placement.to_dict()) == json.dumps(again.to_dict())

    @some_nets
    @given(shape=shapes, spec=systems, request_=requests)
    def test_more_chips_never_make_the_fullest_core_heavier(
        self,
        make_network: MakeNetwork,
        recount: Recount,
        shape: tuple[int, ...],
        spec: ChipSpec,
        request_: Request,
    ) -> None:
        graph, small = placed(make_network, shape, spec, replace(request_, objective="chips"))
        fast = place(graph, spec, replace(request_, objective="speed", chips=spec.chips.value))
        assert fullest(recount(graph, spec, fast), spec) <= fullest(recount(graph, spec, small), spec)


class TestPublishedSystem:
    """The 370M: 24 layers of hidden size 1024."""

    @pytest.fixture(scope="class")
    def graph(self, make_network: MakeNetwork) -> Graph:
        return make_network(*SHAPE_370M)

    @pytest.fixture(scope="class")
    def eight_bit(self, graph: Graph) -> Placement:
        """On the fewest chips, with eight bits a weight."""
        return place(graph, LOIHI2, Request(weight_bits=8))

    def test_eight_bit_weights_put_one_block_on_each_of_24_chips(self, eight_bit: Placement) -> None:
        assert eight_bit.chips_used == 24
        assert 100 <= eight_bit.cores_used / 24 <= 120

    def test_two_bit_weights_need_six_chips(self, graph: Graph) -> None:
        assert place(graph, LOIHI2, Request(weight_bits=2)).chips_used == 6

    def test_two_bit_weights_and_the_head_fit_one_kapoho_point(self, graph: Graph) -> None:
        request = Request(weight_bits=2, head="chip")
        assert place(graph, KAPOHO_POINT, request).chips_used <= 8

    def test_more_chips_make_the_fullest_core_lighter(self, graph: Graph) -> None:
        loads = []
        for chips in (6, 24):
            request = Request(weight_bits=2, objective="speed", chips=chips)
            loads.append(max(rows for rows, _ in glu_rows(place(graph, LOIHI2, request))))
        assert loads[1] < loads[0] / 3

    def test_the_longest_sums_have_cores_of_their_own_and_no_core_receives_more(
        self, graph: Graph, eight_bit: Placement
    ) -> None:
        holding = [core for core in eight_bit.cores if any(".down_proj.norm.rms" in s.node for s in core.shards)]
        assert [len(core.shards) for core in holding] == [1] * 24
        used = core_usages(graph, LOIHI2, eight_bit)
        # A sum reads the high and the low part of 2816 squares.
        assert max(each["input_axons"][0] for each in used) == 2 * 2816

    def test_idle_cores_of_the_fewest_chips_make_the_fullest_core_lighter(self, eight_bit: Placement) -> None:
        # A core has room for 60 neurons of the GLU: 2048 lists of 4 bytes and a byte for each neuron.
        assert max(rows for rows, _ in glu_rows(eight_bit)) < 131072 // 2048 - 4
        assert eight_bit.cores_used / eight_bit.chips_used > 110


def glu_rows(placement: Placement) -> list[tuple[int, str]]:
    return [
        (each.count, each.node) for core in placement.cores for each in core.shards if each.node.endswith("glu")
    ]


def test_the_dearer_a_message_the_fewer_the_fullest_core_receives(
    make_network: MakeNetwork, recount: Recount
) -> None:
    graph, received = make_network(1, 16, 24, 40), []
    for operations in (1, 100):
        spec = changed(OHEO_GULCH, cores_per_chip=6, message_operations=operations)
        cores = recount(graph, spec, place(graph, spec, Request(weight_bits=8)))
        received.append(max(core["input_axons"] for core in cores))
    assert received[1] < received[0]


class TestRefusal:
    """Every limit in turn: refused with numbers, and the option that is named works."""

    NET = (2, 16, 24, 40)

    @pytest.mark.parametrize(
        ("limit", "value", "words"),
        [
            ("neurons_per_core", 2, "neurons for one neuron"),
            ("synapse_memory_bytes", 40, "bytes of synapse memory for one neuron"),
            ("input_axons", 10, "input axons for one neuron"),
            ("output_axons", 1, "output axons for one neuron"),
            ("program_memory_bytes", 100, "bytes of neuron programs for one neuron"),
            ("table_memory_bytes", 300, "bytes of tables for one neuron"),
            ("synapse_delay", 1, "steps of synaptic delay"),
        ],
    )
    def test_a_limit_of_a_core(self, make_network: MakeNetwork, limit: str, value: int, words: str) -> None:
        graph = make_network(*self.NET)
        with pytest.raises(DoesNotFitError) as caught:
            place(graph, changed(LOIHI2, **{limit: value}), Request(weight_bits=8))
        message = str(caught.value)
        assert f"{words}, at most {value}" in message
        assert 'It fits with `chip="kapoho-point"`.' in message
        assert place(graph, KAPOHO_POINT, Request(weight_bits=8)).cores

    @pytest.mark.parametrize(
        ("spec", "request_", "words", "option", "better"),
        [
            pytest.param(
                changed(OHEO_GULCH, cores_per_chip=9, synapse_memory_bytes=1000),
                Request(weight_bits=8),
                "2 chips, at most 1",
                "`weight_bits=2`",
                Request(weight_bits=2),
                id="chips",
            ),
            pytest.param(
                changed(LOIHI2, cores_per_chip=2, synapse_memory_bytes=600),
                Request(weight_bits=2),
                "cores of one chip, at most 2",
                "`straddle=True`",
                Request(weight_bits=2, straddle=True),
                id="cores of a chip",
            ),
            pytest.param(
                changed(LOIHI2, weight_bits=4),
                Request(weight_bits=8),
                "8 bits of a weight, at most 4",
                "`weight_bits=2`",
                Request(weight_bits=2),
                id="bits of a weight",
            ),
            pytest.param(
                changed(OHEO_GULCH, cores_per_chip=2, synapse_memory_bytes=3000),
                Request(weight_bits=2, head="chip"),
                "2 chips, at most 1",
                '`head="host"`',
                Request(weight_bits=2),
                id="head",
            ),
            pytest.param(
                changed(LOIHI2, cores_per_chip=3, synapse_memory_bytes=1000),
                Request(weight_bits=2, objective="speed", chips=1),
                "2 chips, at most 1",
                "`chips=2`",
                Request(weight_bits=2, objective="speed", chips=2),
                id="chips asked for",
            ),
        ],
    )
    def test_a_limit_that_an_option_helps_against(
        self,
        make_network: MakeNetwork,
        spec: ChipSpec,
        request_: Request,
        words: str,
        option: str,
        better: Request,
    ) -> None:
        graph = make_network(*self.NET)
        with pytest.raises(DoesNotFitError) as caught:
            place(graph, spec, request_)
        assert words in str(caught.value)
        assert f"It fits with {option}." in str(caught.value)
        assert place(graph, spec, better).cores

    def test_all_violations_are_in_one_message(self, make_network: MakeNetwork) -> None:
        spec = changed(LOIHI2, table_memory_bytes=300, synapse_delay=1, weight_bits=4)
        with pytest.raises(DoesNotFitError) as caught:
            place(make_network(*self.NET), spec, Request(weight_bits=8))
        for words in ("bits of a weight", "steps of synaptic delay", "bytes of tables"):
            assert words in str(caught.value)

    def test_a_block_of_the_1_3b_is_too_large_for_one_chip_at_eight_bits_but_not_at_two(
        self, make_network: MakeNetwork
    ) -> None:
        graph = make_network(24, 2048, 5632, 32000)
        with pytest.raises(DoesNotFitError, match=r"layers\.0: \d+ cores of one chip, at most 120"):
            place(graph, HALA_POINT, Request(weight_bits=8))
        assert place(graph, HALA_POINT, Request(weight_bits=2)).chips_used == 24

    def test_what_no_option_helps_against_says_so(self, make_network: MakeNetwork) -> None:
        graph = make_network(1, 4, 4, 40)
        wide = Graph(
            tuple(replace(each, steps=70) if isinstance(each, Delay) else each for each in graph), graph.tensors
        )
        with pytest.raises(DoesNotFitError, match="No option makes it fit"):
            place(wide, LOIHI2, Request(weight_bits=8))

    def test_more_chips_than_the_system_has_cannot_be_asked_for(self, make_network: MakeNetwork) -> None:
        with pytest.raises(UsageError, match="chips is 9; kapoho-point has 8"):
            place(make_network(*self.NET), KAPOHO_POINT, Request(weight_bits=8, objective="speed", chips=9))


class TestCheck:
    def test_a_placement_for_a_larger_core_is_found_out(self, make_network: MakeNetwork) -> None:
        graph = make_network(1, 16, 24, 40)
        placement = place(graph, LOIHI2, Request(weight_bits=8))
        found = check(graph, changed(LOIHI2, synapse_memory_bytes=200), placement)
        assert {each.resource for each in found} == {"bytes of synapse memory"}
        assert all(each.used > each.limit == 200 for each in found)

    def test_a_placement_that_leaves_neurons_out_is_refused(self, make_network: MakeNetwork) -> None:
        graph = make_network(1, 16, 24, 40)
        placement = place(graph, LOIHI2, Request(weight_bits=8))
        with pytest.raises(ValueError, match=r"neurons are placed|is not placed exactly once"):
            check(graph, LOIHI2, replace(placement, cores=placement.cores[1:]))

    def test_a_placement_of_another_network_is_refused(self, make_network: MakeNetwork) -> None:
        placement = place(make_network(2, 16, 24, 40), LOIHI2, Request(weight_bits=8))
        with pytest.raises(ValueError, match="which the graph does not place on chip"):
            check(make_network(1, 16, 24, 40), LOIHI2, placement)


def test_the_host_keeps_the_token_table_and_only_the_head_is_optional(make_network: MakeNetwork) -> None:
    graph = make_network(1, 16, 24, 40)
    nodes = {}
    for head in ("host", "chip"):
        placement = place(graph, LOIHI2, Request(weight_bits=8, head=head))
        nodes[head] = {shard.node for core in placement.cores for shard in core.shards}
    assert nodes["chip"] - nodes["host"] == {"norm.rms", "norm.scale", "logits"}
    assert not any(isinstance(graph.by_name[name], TokenIn) for name in nodes["chip"])

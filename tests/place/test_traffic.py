"""Messages of a step: what leaves arrives, a multicast counts once on a link, silence costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.ir.nodes import NeuronGroup
from loihi_mmfree.loihi2.hardware import LOIHI2, ChipSpec, Figure
from loihi_mmfree.place.layout import Request
from loihi_mmfree.place.placement import Core, Placement, Shard
from loihi_mmfree.place.placer import place
from loihi_mmfree.place.traffic import LinkTraffic, Traffic, traffic

MakeNetwork = Callable[..., Graph]


def small_system(cores: int) -> ChipSpec:
    values = {
        "chips": 16,
        "chip_rows": 4,
        "chip_columns": 4,
        "cores_per_chip": cores,
        "mesh_rows": 3,
        "mesh_columns": 4,
        "synapse_memory_bytes": 700,
    }
    return replace(LOIHI2, **{name: Figure(value, "", "test", "assumed") for name, value in values.items()})


shapes = st.tuples(
    st.integers(1, 3), st.integers(1, 4).map(lambda n: 4 * n), st.integers(1, 5).map(lambda n: 4 * n), st.just(30)
)
requests = st.builds(
    Request,
    weight_bits=st.sampled_from([2, 8]),
    head=st.sampled_from(["host", "chip"]),
    straddle=st.just(True),
)
some_nets = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def step(
    make_network: MakeNetwork, shape: tuple[int, ...], request: Request, cores: int
) -> tuple[Graph, Placement, Traffic]:
    graph, spec = make_network(*shape), small_system(cores)
    placement = place(graph, spec, request)
    return graph, placement, traffic(graph, spec, placement)


class TestConservation:
    @some_nets
    @given(shape=shapes, request_=requests, cores=st.integers(5, 12))
    def test_every_copy_that_leaves_arrives(
        self, make_network: MakeNetwork, shape: tuple[int, ...], request_: Request, cores: int
    ) -> None:
        _, _, found = step(make_network, shape, request_, cores)
        left = sum(core.copies for core in found.cores) + found.host_sent
        arrived = sum(core.received for core in found.cores) + found.host_received
        assert left == arrived

    @some_nets
    @given(shape=shapes, request_=requests, cores=st.integers(5, 12))
    def test_links_carry_the_trees_of_every_message_walked_one_by_one(
        self,
        make_network: MakeNetwork,
        listeners: Callable[..., dict[tuple[str, str, int], set[int]]],
        shape: tuple[int, ...],
        request_: Request,
        cores: int,
    ) -> None:
        graph, placement, found = step(make_network, shape, request_, cores)
        where = [at((core.chip, core.core)) for core in placement.cores]
        sender = {
            (shard.node, j): where[number]
            for number, core in enumerate(placement.cores)
            for shard in core.shards
            for j in range(shard.first, shard.first + shard.count)
        }
        expected: dict[tuple[tuple[int, int], tuple[int, int]], int] = {}
        for (node, _, element), readers in listeners(graph, placement).items():
            if (node, element) in sender:
                for link in tree(sender[node, element], [where[core] for core in readers if core >= 0]):
                    expected[link] = expected.get(link, 0) + 1
        assert {(at(link.source), at(link.target)): link.messages for link in found.links} == expected

    @some_nets
    @given(shape=shapes, request_=requests, cores=st.integers(5, 12))
    def test_worst_case_is_one_message_of_every_neuron_and_port(
        self, make_network: MakeNetwork, shape: tuple[int, ...], request_: Request, cores: int
    ) -> None:
        graph, placement, found = step(make_network, shape, request_, cores)
        on_chip = {shard.node for core in placement.cores for shard in core.shards}
        groups = [node for node in graph if isinstance(node, NeuronGroup) and node.name in on_chip]
        logits = 30 if request_.head == "chip" else 0
        assert found.sent == sum(sum(node.outputs.values()) for node in groups) + logits

    @some_nets
    @given(shape=shapes, request_=requests, cores=st.integers(5, 12))
    def test_links_join_neighbours(
        self, make_network: MakeNetwork, shape: tuple[int, ...], request_: Request, cores: int
    ) -> None:
        _, _, found = step(make_network, shape, request_, cores)
        for link in found.links:
            (row, column), (there_row, there_column) = at(link.source), at(link.target)
            assert abs(row - there_row) + abs(column - there_column) == 1


def at(router: tuple[int, int]) -> tuple[int, int]:
    """Row and column in the grid of all routers: chips along a snake of four a row, 3 x 4 routers each."""
    chip_row, chip_column = divmod(router[0], 4)
    if chip_row % 2:
        chip_column = 3 - chip_column
    return chip_row * 3 + router[1] // 4, chip_column * 4 + router[1] % 4


def tree(start: tuple[int, int], targets: list[tuple[int, int]]) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    """The links of the routes to all targets, column by column first, each link once."""
    links = set()
    for target in targets:
        row, column = start
        while (row, column) != target:
            before = (row, column)
            if column != target[1]:
                column += 1 if target[1] > column else -1
            else:
                row += 1 if target[0] > row else -1
            links.add((before, (row, column)))
    return links


class TestRoutes:
    """A broadcast from one neuron, by hand: the inverse root of the first norm, to its scaling group."""

    ROOT = "layers.0.attn_norm.rms"

    def links(self, make_network: MakeNetwork, sender: tuple[int, int], targets: list[tuple[int, int]]) -> Traffic:
        """Everything is silent but one port of one neuron; its readers are spread over `targets`."""
        graph = make_network(1, 4, 4, 30)
        spread = [Core(*place, (Shard("layers.0.attn_norm.scale", n, 1),)) for n, place in enumerate(targets)]
        rest = [
            Shard(node.name, 0, node.size)
            for node in graph
            if isinstance(node, NeuronGroup)
            and not node.name.startswith("norm")
            and node.name not in ("layers.0.attn_norm.scale", self.ROOT)
        ]
        cores = [*spread, Core(*sender, (Shard(self.ROOT, 0, 1),)), Core(15, 0, tuple(rest))]
        placement = Placement("small", 8, "host", "chips", tuple(sorted(cores, key=lambda c: (c.chip, c.core))))
        silent = {f"{node.name}:{port}": 0.0 for node in graph for port in node.outputs}
        return traffic(graph, small_system(12), placement, silent | {f"{self.ROOT}:mantissa": 1.0})

    def pairs(self, found: Traffic) -> list[tuple[tuple[int, int], tuple[int, int], float]]:
        return [(link.source, link.target, link.messages) for link in found.links]

    def test_along_the_row_first_then_along_columns_and_once_on_what_branches_share(
        self, make_network: MakeNetwork
    ) -> None:
        # Cores of a chip: 0 1 2 3 / 4 5 6 7 / 8 9 10 11.
        found = self.links(make_network, (0, 0), [(0, 2), (0, 6), (0, 10), (0, 5)])
        expected = [((0, 0), (0, 1)), ((0, 1), (0, 2)), ((0, 1), (0, 5)), ((0, 2), (0, 6)), ((0, 6), (0, 10))]
        assert self.pairs(found) == [(*ends, 1.0) for ends in expected]

    def test_back_and_up(self, make_network: MakeNetwork) -> None:
        found = self.links(make_network, (0, 11), [(0, 8), (0, 1), (0, 7), (0, 10)])
        expected = [
            ((0, 5), (0, 1)),
            ((0, 9), (0, 5)),
            ((0, 9), (0, 8)),
            ((0, 10), (0, 9)),
            ((0, 11), (0, 7)),
            ((0, 11), (0, 10)),
        ]
        assert self.pairs(found) == [(*ends, 1.0) for ends in expected]

    def test_a_message_to_the_next_chip_crosses_its_edge_once(self, make_network: MakeNetwork) -> None:
        found = self.links(make_network, (0, 3), [(1, 0), (1, 1), (1, 4), (1, 8)])
        assert found.between_chips() == {(0, 1): 1.0}
        assert LinkTraffic((0, 3), (1, 0), 1.0) in found.links

    def test_a_chip_at_the_end_of_a_row_is_a_neighbour_of_its_successor(self, make_network: MakeNetwork) -> None:
        found = self.links(make_network, (3, 8), [(4, 0), (4, 1), (4, 2), (4, 3)])
        assert set(found.between_chips()) == {(3, 4)}

    def test_bytes_are_messages_times_their_size(self, make_network: MakeNetwork) -> None:
        found = self.links(make_network, (0, 0), [(0, 2), (0, 6), (0, 10), (0, 5)])
        assert (found.link_messages, found.link_bytes) == (5.0, 5.0 * LOIHI2.message_bytes.value)


class TestActivity:
    def test_messages_scale_with_the_activity_of_their_port(self, make_network: MakeNetwork) -> None:
        graph, spec = make_network(2, 16, 20, 30), small_system(12)
        placement = place(graph, spec, Request(weight_bits=8, straddle=True))
        half = {f"{node.name}:{port}": size / 2 for node in graph for port, size in node.outputs.items()}
        worst, found = traffic(graph, spec, placement), traffic(graph, spec, placement, half)
        assert found.link_messages == pytest.approx(worst.link_messages / 2)
        assert found.sent == pytest.approx(worst.sent / 2)
        assert found.host_sent == pytest.approx(worst.host_sent / 2)

    def test_a_silent_network_loads_no_link(self, make_network: MakeNetwork) -> None:
        graph, spec = make_network(2, 16, 20, 30), small_system(12)
        placement = place(graph, spec, Request(weight_bits=8, straddle=True))
        silent = {f"{node.name}:{port}": 0.0 for node in graph for port in node.outputs}
        found = traffic(graph, spec, placement, silent)
        assert (found.links, found.sent, found.busiest_link) == ((), 0.0, None)

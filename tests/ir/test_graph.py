"""The graph: what it knows about itself, and every fault it finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loihi_mmfree.fixedpoint.program import ProgramBuilder
from loihi_mmfree.fixedpoint.ternary import pack_ternary
from loihi_mmfree.ir.graph import Graph, Node, Source
from loihi_mmfree.ir.nodes import LogitsOut, NeuronGroup, Role, TokenIn, block_of
from loihi_mmfree.ir.synapses import Broadcast, Delay, SumSynapse, TernarySynapse


def echo() -> NeuronGroup:
    """A group of four neurons that sends what it hears, twice."""
    builder = ProgramBuilder()
    x = builder.input("x", 8)
    builder.send("out", x)
    builder.send("again", x)
    return NeuronGroup("echo", (Source("tokens"),), Role.EMBEDDING, 4, builder.build(), (), (), ())


TOKENS = TokenIn("tokens", (), 4, "tokens.table")
HEAD = TernarySynapse("head", (Source("echo"),), 3, 4, "head.codes", 0, 4)
LOGITS = LogitsOut("logits", (Source("head"),), 3, 1.0)


def graph(*nodes: Node) -> Graph:
    return Graph(nodes, {})


class TestCheck:
    def test_accepts_a_well_formed_graph(self) -> None:
        graph(TOKENS, echo(), HEAD, LOGITS).check()

    @pytest.mark.parametrize(
        ("nodes", "message"),
        [
            pytest.param([TOKENS, TOKENS], "tokens: the name is used twice", id="name"),
            pytest.param([HEAD], "head: reads echo:out, which no earlier node sends", id="unknown-node"),
            pytest.param(
                [TOKENS, replace(echo(), inputs=(Source("tokens", "left"),))],
                "echo: reads tokens:left, which no earlier node sends",
                id="unknown-port",
            ),
            pytest.param([TOKENS, HEAD, echo()], "head: reads echo:out, which no earlier node sends", id="order"),
            pytest.param(
                [TOKENS, replace(echo(), inputs=(Source("echo"),))],
                "echo: reads echo:out, which no earlier node sends",
                id="itself",
            ),
            pytest.param(
                [TOKENS, echo(), replace(HEAD, columns=5, source_size=5)],
                "head: reads 5 elements of echo:out, which sends 4",
                id="size",
            ),
            pytest.param([TOKENS, replace(echo(), inputs=())], "echo: 0 inputs, expected 1", id="too-few"),
            pytest.param(
                [TOKENS, echo(), replace(HEAD, inputs=(Source("echo"), Source("echo")))],
                "head: 2 inputs, expected 1",
                id="too-many",
            ),
        ],
    )
    def test_names_the_fault(self, nodes: list[Node], message: str) -> None:
        with pytest.raises(ValueError, match="not well formed") as raised:
            graph(*nodes).check()
        assert str(raised.value).splitlines()[1:] == [message]

    def test_lists_every_fault(self) -> None:
        with pytest.raises(ValueError, match="not well formed") as raised:
            graph(TOKENS, TOKENS, replace(echo(), size=5), replace(HEAD, columns=7, source_size=7)).check()
        assert str(raised.value).splitlines()[1:] == [
            "tokens: the name is used twice",
            "echo: reads 5 elements of tokens:out, which sends 4",
            "head: reads 7 elements of echo:out, which sends 5",
        ]


class TestNeighbours:
    def test_consumers_of_a_port_are_in_order_and_each_counts_once(self) -> None:
        first, second = Delay("a", (Source("echo"),), 4, 1), Delay("b", (Source("echo"),), 4, 1)
        other = SumSynapse("c", (Source("echo", "again"),), 4)
        found = graph(TOKENS, echo(), first, second, other).consumers
        assert found[Source("echo")] == (first, second)
        assert found[Source("echo", "again")] == (other,)

    def test_readers_are_those_of_all_ports(self) -> None:
        other = SumSynapse("sum", (Source("echo", "again"),), 4)
        net = graph(TOKENS, echo(), HEAD, other)
        assert net.readers(net.by_name["echo"]) == (HEAD, other)

    def test_other_nodes_share_the_tensors(self) -> None:
        tensors = {"head.codes": np.zeros((3, 4), dtype=np.int8)}
        assert Graph((TOKENS,), tensors).with_nodes([]).tensors is tensors


@pytest.mark.parametrize(
    ("node", "inputs", "outputs", "latency"),
    [
        (TernarySynapse("s", (Source("a"),), 3, 4, "codes", 0, 4), (4,), {"out": 3}, 1),
        (TernarySynapse("s", (Source("a"),), 3, 4, "codes", 8, 16), (16,), {"out": 3}, 1),
        (SumSynapse("s", (Source("a"),), 4), (4,), {"out": 1}, 1),
        (Broadcast("s", (Source("a"),), 4), (1,), {"out": 4}, 1),
        (Delay("s", (Source("a"),), 4, 9), (4,), {"out": 4}, 9),
    ],
)
def test_a_synapse_states_what_it_takes_gives_and_lasts(
    node: TernarySynapse, inputs: tuple[int, ...], outputs: dict[str, int], latency: int
) -> None:
    assert node.input_sizes == inputs
    assert dict(node.outputs) == outputs
    assert node.latency == latency


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("tokens", "host"),
        ("logits", "host"),
        ("embeddings", "embeddings"),
        ("layers.12.attn.i_proj", "layers.12"),
        ("layers.1.mlp.residual.stream_delay", "layers.1"),
        ("norm.rms", "lm_head"),
        ("lm_head", "lm_head"),
    ],
)
def test_every_node_belongs_to_a_block(name: str, block: str) -> None:
    assert block_of(name) == block


class TestSlices:
    def test_a_slice_has_no_weights_outside_its_columns(self) -> None:
        codes = np.array([[1, -1, 0], [0, 1, 1]], dtype=np.int8)
        synapse = TernarySynapse("s", (Source("a"),), 2, 3, "codes", first_column=4, source_size=9)
        weights = synapse.weights({"codes": pack_ternary(codes)})
        assert weights.shape == (2, 9)
        assert np.array_equal(weights[:, 4:7], codes)
        assert not weights[:, :4].any()
        assert not weights[:, 7:].any()

    @pytest.mark.parametrize(("first", "source"), [(3, 16), (4, 7)])
    def test_a_slice_begins_at_a_byte_and_ends_within_its_source(self, first: int, source: int) -> None:
        with pytest.raises(ValueError, match=r"s: columns .* no slice of"):
            TernarySynapse("s", (Source("a"),), 2, 4, "codes", first, source)

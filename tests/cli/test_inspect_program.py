"""inspect --program, as whoever writes microcode meets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from loihi_mmfree.net.artifact import Net
from loihi_mmfree.report.program import Message, NodeProgram, Receiver
from loihi_mmfree.report.program_text import LISTED, program_lines, shortened

Call = Callable[..., Any]
NODE = "layers.2.attn.mlgru"


@pytest.fixture
def shown(call: Call, tiny_net: Net) -> list[str]:
    called = call("inspect", tiny_net.path, "--program", NODE)
    assert called.code == 0
    return list(called.out.splitlines())


def test_the_header_says_what_surrounds_the_program(shown: list[str], tiny_net: Net) -> None:
    sites = ("layers.2.attn.i_proj.input", "layers.2.attn.state")
    arriving, kept = ("Q{}.{}".format(*tiny_net.manifest["formats"][site]) for site in sites)
    for line in (
        "; layers.2.attn.mlgru: MlGru of layers.2, 128 neurons",
        ";   i:24 <- layers.2.attn.i_proj (TernarySynapse 128 -> 128 of layers.2.attn.i_proj.codes, 1 step) from "
        f"layers.2.attn_norm.scale:i_proj {arriving}",
        f";   h:16 {kept}, 0 before the first token",
        ";   sigmoid:17 = tables.sigmoid (int32, 257), 16384 to 32768",
        ";   square_high:16",
        ";     -> layers.2.attn.o_proj.norm.rms.sum_high (SumSynapse) to layers.2.attn.o_proj.norm.rms:sum_high",
    ):
        assert line in shown
    assert any("in time step 27 from its entry" in line for line in shown)


def test_the_header_names_every_port_with_its_width(shown: list[str], tiny_net: Net) -> None:
    program = tiny_net.graph.by_name[NODE].program  # type: ignore[attr-defined]
    for port in (*program.inputs, *program.states, *program.outputs):
        assert any(line.startswith(f";   {port.name}:{port.bits}") for line in shown)


def test_the_document_holds_the_printed_listing(call: Call, tiny_net: Net, shown: list[str]) -> None:
    called = call("inspect", tiny_net.path, "--program", NODE, "--json")
    assert called.document["listing"] == [line for line in shown if not line.startswith(";")]
    assert called.document.keys() == {
        "node", "role", "block", "neurons", "step", "depth", "inputs", "states", "constants", "tables", "outputs",
        "instructions", "listing", "operations",
    }  # fmt: skip
    assert called.out.splitlines()[:-1] == shown


@pytest.mark.parametrize("other", [("--nodes",), ("--cores",), ("--html", "page.html")])
def test_what_shows_the_whole_network_does_not_go_with_it(
    call: Call, tiny_net: Net, other: tuple[str, ...], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    called = call("inspect", tiny_net.path, "--program", NODE, *other)
    assert called.code == 2
    assert f"not with {other[0]}" in called.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (
            "mlgru",
            ["no such node", "groups are layers.0.attn.mlgru, layers.1", "43 more (a full inspection lists all)"],
        ),
        ("layers.0.attn.i_proj", ["a TernarySynapse has no program"]),
    ],
)
def test_a_node_without_a_program_is_refused_with_those_that_have_one(
    call: Call, tiny_net: Net, node: str, words: list[str]
) -> None:
    called = call("inspect", tiny_net.path, "--program", node)
    assert called.code == 2
    assert called.out == ""
    for word in words:
        assert word in called.err


def test_long_lists_fold_and_say_where_the_rest_is() -> None:
    names = [f"n{number}" for number in range(LISTED + 12)]
    assert shortened(names, "elsewhere").endswith(f"n{LISTED - 1}, ... and 12 more (elsewhere)")
    assert shortened(names[:LISTED], "elsewhere").endswith(f"n{LISTED - 1}")
    receivers = tuple(Receiver(f"relay{name}", "TernarySynapse", ("next:x",)) for name in names)
    group = NodeProgram(
        "node", "Relay", "layers.0", 1, 0, 1, (), (), (), (), (Message("out", 8, None, receivers),), (), (), ()
    )
    lines = list(program_lines(group))
    assert sum("->" in line for line in lines) == LISTED
    assert lines[-1] == ";     ... and 12 more (its JSON lists all)"

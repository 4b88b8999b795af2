"""A network whose programs are not what this version knows: refused as it is read, whatever its hashes say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loihi_mmfree.net.artifact import file_sha256

Call = Callable[..., Any]
DAMAGED = 3
NODE = "layers.1.attn.mlgru"


def forge(net: Path, change: Callable[[list[Any]], None], operation: str) -> None:
    """Change an instruction of a node's program and make the manifest agree, as a careful forger would."""
    path = net / "graph.json"
    graph = json.loads(path.read_text())
    (node,) = (each for each in graph if each["name"] == NODE)
    change(next(each for each in node["program"]["instructions"] if each[0] == operation))
    path.write_text(json.dumps(graph))
    manifest = json.loads((net / "manifest.json").read_text())
    manifest["files"][path.name] = file_sha256(path)
    (net / "manifest.json").write_text(json.dumps(manifest))


def field(position: int, value: Any) -> Callable[[list[Any]], None]:
    def change(instruction: list[Any]) -> None:
        instruction[position] = value

    return change


def _without_an_operand(instruction: list[Any]) -> None:
    instruction[2].pop()


OPERATION, IMMEDIATE, BITS = 0, 3, 4


@pytest.mark.parametrize(
    ("change", "operation", "words"),
    [
        pytest.param(field(OPERATION, "divide"), "min", ["(divide)", "unknown operation"], id="unknown, of two"),
        pytest.param(field(OPERATION, "fma"), "lerp", ["(fma)", "unknown operation"], id="unknown, of three"),
        pytest.param(_without_an_operand, "add", ["(add)", "2 operands, found 1"], id="arity"),
        pytest.param(field(IMMEDIATE, 63), "shift_right", ["immediate 63 is not in 0..62"], id="too far"),
        pytest.param(field(IMMEDIATE, -1), "high_bits", ["immediate -1 is not in 0..62"], id="negative"),
        pytest.param(field(IMMEDIATE, 1), "saturate", ["immediate 1 is not in 2..62"], id="too narrow"),
        pytest.param(field(IMMEDIATE, 2**70), "immediate", ["immediate", str(2**70)], id="huge"),
        pytest.param(field(IMMEDIATE, 7), "mul", ["immediate 7 is not in 0..0"], id="where none is taken"),
        pytest.param(field(IMMEDIATE, 1), "send", ["immediate 1 is not in 0..0"], id="effect"),
        pytest.param(field(IMMEDIATE, True), "shift_right", ["True is no whole number"], id="truth"),
        pytest.param(field(IMMEDIATE, 3.0), "shift_right", ["3.0 is no whole number"], id="float"),
        pytest.param(field(IMMEDIATE, "3"), "shift_right", ["'3' is no whole number"], id="text"),
        pytest.param(field(BITS, 16.5), "mul", ["16.5 is no whole number"], id="width"),
    ],
)
def test_a_program_that_is_none_is_refused_as_it_is_read(
    call: Call, net_copy: Path, change: Callable[[list[Any]], None], operation: str, words: list[str]
) -> None:
    forge(net_copy, change, operation)
    called = call("run", net_copy, "--backend", "engine", "--ids", "1,5")
    assert called.code == DAMAGED, called.err
    assert "Traceback" not in called.err
    assert called.out == ""
    for word in ("graph.json", NODE, "compile again", *words):
        assert word in called.err


def test_what_is_no_number_of_json_is_refused_before_any_program(call: Call, net_copy: Path) -> None:
    forge(net_copy, field(IMMEDIATE, float("nan")), "shift_right")
    called = call("run", net_copy, "--backend", "engine", "--ids", "1,5")
    assert (called.code, called.out) == (DAMAGED, "")
    assert "graph.json: cannot be read: NaN is no number of JSON; compile again" in called.err


@pytest.mark.parametrize("command", [("inspect",), ("compare", "--no-lava"), ("report",)])
def test_every_command_refuses_it(call: Call, net_copy: Path, command: tuple[str, ...]) -> None:
    forge(net_copy, field(OPERATION, "divide"), "min")
    called = call(command[0], net_copy, *command[1:])
    assert called.code == DAMAGED
    assert "unknown operation" in called.err

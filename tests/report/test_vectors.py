"""Vectors: whoever has the folder alone can write a group and know that it is right, or where it is not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_mmfree import api
from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.bounds import propagate
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.pipeline import compile_checkpoint
from loihi_mmfree.errors import MismatchError, UsageError
from loihi_mmfree.ir.nodes import NeuronGroup, Role
from loihi_mmfree.ir.synapses import SumSynapse, TernarySynapse
from loihi_mmfree.net.artifact import Net, load_net

Arrays = dict[str, np.ndarray]

ROLES = {
    "Embedding": "embeddings",
    "RmsNorm": "layers.0.attn_norm.rms",
    "Scale": "layers.1.attn_norm.scale",
    "MlGru": "layers.1.attn.mlgru",
    "Glu": "layers.0.mlp.glu",
    "Residual": "layers.0.mlp.residual",
    "Relay": "layers.0.mlp.down_proj.part_0.relay",
}
ROOT_WITH_EPSILON = "layers.0.mlp.down_proj.norm.rms"
PROJECTION, SUM = "layers.1.attn.o_proj", "layers.0.attn_norm.rms.sum_high"

Number = Callable[..., int]
ONE_WORD: dict[str, Number] = {
    "immediate": lambda n: n,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "shift_left": lambda a, n: a * 2**n,
    "shift_right": lambda a, n: (2 * a + 2**n) // 2 ** (n + 1),
    "shift_right_by": lambda a, d: (2 * a + 2**d) // 2 ** (d + 1),
    "high_bits": lambda a, n: a // 2**n,
    "low_bits": lambda a, n: a % 2**n,
    "absolute": abs,
    "min": min,
    "max": max,
    "saturate": lambda a, n: max(-(2 ** (n - 1) - 1), min(2 ** (n - 1) - 1, a)),
    "select": lambda a, b, c: b if a >= 0 else c,
    "lerp": lambda w, a, b, n: (2 * (w * a + (2**n - w) * b) + 2**n) // 2 ** (n + 1),
    "exponent": lambda a, n: even_exponent(a, n),
    "mantissa": lambda a, n: mantissa(a, n),
}
"""What the listing's operations mean, in Python's integers, as docs/fixed-point.md has them."""


def even_exponent(a: int, n: int) -> int:
    exponent = -64 if a else 0
    while a and not a < 2 ** (n + exponent) if n + exponent >= 0 else a:
        exponent += 2
    return exponent


def mantissa(a: int, n: int) -> int:
    e = even_exponent(a, n)
    return a * 2**-e if e <= 0 else min((2 * a + 2**e) // 2 ** (e + 1), 2**n - 1)


class PlainNeuron:
    """One neuron of a group, from the folder alone: its listing, its entries of constants, and the tables."""

    def __init__(self, description: dict[str, Any], arrays: Arrays, neuron: int) -> None:
        self.lines = [self.parsed(line) for line in description["listing"]]
        self.too_wide: list[str] = []
        self.constants = {
            name: int(values[neuron if len(values) > 1 else 0])
            for name, values in named(arrays, "constants").items()
        }
        self.tables = {name: [int(each) for each in values] for name, values in named(arrays, "tables").items()}

    @staticmethod
    def parsed(line: str) -> tuple[str, str, int, list[str]]:
        """A line's operation, register, its bits, and operands."""
        found = re.fullmatch(r"(\w+) +(?:(\w+):(\d+) <- )?(.*)", line)
        assert found is not None
        operation, target, bits, operands = found.groups(default="0")
        return operation, target, int(bits), operands.split(", ")

    def step(self, inputs: dict[str, int], states: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
        """Return what it sends, and its states for the next step."""
        registers: dict[str, int] = {}
        sent: dict[str, int] = {}
        stored: dict[str, int] = {}
        loaded = {"input": inputs, "state": states, "constant": self.constants}
        for operation, target, bits, operands in self.lines:
            if operation in ("send", "store"):
                (sent if operation == "send" else stored)[operands[0]] = registers[operands[1]]
                continue
            if operation in loaded:
                value = loaded[operation][operands[0]]
            elif operation == "table":
                value = self.tables[operands[0]][registers[operands[1]]]
            else:
                value = ONE_WORD[operation](*(int(x[1:]) if x[0] == "#" else registers[x] for x in operands))
            if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
                self.too_wide.append(f"{operation} {target}: {value}")
            registers[target] = value
        return sent, stored


def named(arrays: Arrays, kind: str) -> Arrays:
    """The arrays below a path, by what follows it."""
    return {key.removeprefix(f"{kind}/"): value for key, value in arrays.items() if key.startswith(f"{kind}/")}


def read(folder: Path, node: str) -> tuple[dict[str, Any], Arrays]:
    description = json.loads((folder / "nodes" / f"{node}.json").read_text())
    with np.load(folder / "nodes" / f"{node}.npz") as archive:
        return description, dict(archive)


def implement(folder: Path, node: str) -> tuple[Arrays, list[str]]:
    """What plain neurons give for every step of every case, and what did not fit a register."""
    description, arrays = read(folder, node)
    neurons = [PlainNeuron(description, arrays, neuron) for neuron in range(description["neurons"])]
    found: Arrays = {}
    for case in description["cases"]:
        given = named(arrays, case["name"])
        inputs, before = named(given, "inputs"), named(given, "before")
        rows = [
            [
                neuron.step(
                    {name: int(values[step, number]) for name, values in inputs.items()},
                    {name: int(values[step, number]) for name, values in before.items()},
                )
                for number, neuron in enumerate(neurons)
            ]
            for step in range(case["steps"])
        ]
        for position, kind in enumerate(("outputs", "after")):
            for name in rows[0][0][position]:
                values = [[each[position][name] for each in row] for row in rows]
                found[f"{case['name']}/{kind}/{name}"] = np.array(values)
    return found, [each for neuron in neurons for each in neuron.too_wide]


def check(folder: Path, candidate: Path, *nodes: str) -> subprocess.CompletedProcess[str]:
    """Run the script of the folder, by a Python that does not see this package."""
    command = [sys.executable, "-I", str(folder / "check_vectors.py"), str(candidate), *nodes]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def net(make_checkpoint: Callable[..., Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Net:
    """A small network, some of whose rows are cut. Read it only."""
    path = tmp_path_factory.mktemp("split")
    (path / "few-axons.toml").write_text("input_axons = 34\n")
    config = CompileConfig(chip=str(path / "few-axons.toml"), calibration_tokens=64)
    return compile_checkpoint(make_checkpoint(hidden_size=16, intermediate_size=64).path, path / "net", config)[0]


@pytest.fixture(scope="module")
def folder(net: Net) -> Path:
    """The vectors of all that computes. Read it only."""
    return api.vectors(net, net.path.parent / "vectors").path


@pytest.mark.parametrize("node", [*ROLES.values(), ROOT_WITH_EPSILON])
def test_a_group_is_implemented_from_its_listing_and_vectors_alone(
    folder: Path, node: str, tmp_path: Path
) -> None:
    found, too_wide = implement(folder, node)
    np.savez(tmp_path / f"{node}.npz", **found)  # type: ignore[arg-type]
    checked = check(folder, tmp_path, node)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{node}: equal" in checked.stdout
    assert too_wide == []


def test_the_groups_are_of_every_role(folder: Path) -> None:
    assert {read(folder, node)[0]["role"]: node for node in ROLES.values()} == ROLES
    assert ROLES.keys() == {role.value for role in Role}


@pytest.mark.parametrize("node", [PROJECTION, SUM])
def test_sums_are_those_of_the_weights_and_reach_what_the_proof_allows(folder: Path, net: Net, node: str) -> None:
    description, arrays = read(folder, node)
    for case in description["cases"]:
        given = named(arrays, case["name"])
        for arriving, sums in zip(given["inputs/in"], given["outputs/out"], strict=True):
            for weights, found in zip(arrays["weights"].tolist(), sums.tolist(), strict=True):
                assert found == sum(w * x for w, x in zip(weights, arriving.tolist(), strict=True))
    bounds = next(outputs["out"] for each, _, (outputs, _) in propagate(net.graph) if each.name == node)
    largest = arrays["largest/outputs/out"]
    assert (largest.min(), largest.max()) == (bounds.lowest, bounds.highest)


def test_states_are_carried_where_a_case_says_so(folder: Path) -> None:
    description, arrays = read(folder, ROLES["MlGru"])
    carried = [case["name"] for case in description["cases"] if case["carried"]]
    assert carried == ["golden", "random"]
    for name in carried:
        before, after = arrays[f"{name}/before/h"], arrays[f"{name}/after/h"]
        assert not before[0].any()
        np.testing.assert_array_equal(before[1:], after[:-1])
        assert after[-1].any()


def test_golden_steps_are_the_golden_messages(folder: Path, net: Net) -> None:
    golden = net.golden()
    for node in (ROLES["MlGru"], PROJECTION):
        for name, values in named(read(folder, node)[1], "golden/outputs").items():
            np.testing.assert_array_equal(values, golden[f"{node}:{name}"])


def reached(folder: Path, node: str, operation: str, *of: str) -> list[tuple[int, ...]]:
    """What the instructions of one operation met."""
    description, _ = read(folder, node)
    lines = [each for each in description["reached"] if each["line"].startswith(operation) and of[0] in each]
    return [tuple(each[name] for name in of) for each in lines]


def test_a_root_meets_both_ends_of_its_table_and_a_sum_of_zero(folder: Path) -> None:
    for node in (ROLES["RmsNorm"], ROOT_WITH_EPSILON):
        assert reached(folder, node, "table", "least", "greatest") == [(0, 95), (1, 96)]
    assert reached(folder, ROLES["RmsNorm"], "mantissa", "least")[0] == (0,)
    arrays = read(folder, ROLES["RmsNorm"])[1]
    assert [arrays[f"silence/outputs/{name}"].tolist() for name in ("mantissa", "exponent")] == [[[0]], [[0]]]


def test_clamps_meet_both_sides_and_shifts_meet_halves_on_both(folder: Path) -> None:
    for node, clamps in (("MlGru", 4), ("Glu", 3), ("Residual", 2), ("Scale", 3)):
        sides = reached(folder, ROLES[node], "saturate", "clamped_from_below", "clamped_from_above")
        assert sum(below > 0 and above > 0 for below, above in sides) >= clamps, node
        halves = reached(folder, ROLES[node], "shift_right", "halves_below_zero", "halves_above_zero")
        assert sum(below > 0 and above > 0 for below, above in halves) >= clamps, node


WRONG: dict[str, Number] = {
    "shift_right": lambda a, n: a // 2**n,
    "shift_right_by": lambda a, d: a // 2**d,
    "saturate": lambda a, n: max(-(2 ** (n - 1)), min(2 ** (n - 1) - 1, a)),
    "lerp": lambda w, a, b, n: b + ((w * (a - b)) >> n),
    "mantissa": lambda a, n: min(mantissa(a, n) & ~1, 2**n - 1),
    "select": lambda a, b, c: b if a > 0 else c,
}
"""What microcode may well do instead: truncate, use all of two's complement, take zero for negative."""


def half_to_even(a: int, n: int) -> int:
    return round(a / 2**n) if n else a


@pytest.mark.parametrize("operation", [*WRONG, "half to even"])
def test_vectors_find_what_is_easily_got_wrong(
    folder: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if operation == "half to even":
        monkeypatch.setitem(ONE_WORD, "shift_right", half_to_even)
        monkeypatch.setitem(ONE_WORD, "shift_right_by", half_to_even)
    else:
        monkeypatch.setitem(ONE_WORD, operation, WRONG[operation])
    roles = {"mantissa": "RmsNorm", "select": "RmsNorm", "shift_right_by": "Scale"}
    node = ROLES[roles.get(operation, "MlGru")]
    expected = read(folder, node)[1]
    found, _ = implement(folder, node)
    assert any((expected[key] != value).any() for key, value in found.items())


def test_the_script_says_where_a_candidate_differs(folder: Path, tmp_path: Path) -> None:
    node = ROLES["RmsNorm"]
    _, arrays = read(folder, node)
    candidate = {key: value for key, value in arrays.items() if "/outputs/" in key}
    candidate["random/outputs/mantissa"] = candidate["random/outputs/mantissa"].copy()
    candidate["random/outputs/mantissa"][3, 0] += 1
    candidate["ends/outputs/exponent"] = candidate["ends/outputs/exponent"][:1]
    del candidate["golden/outputs/mantissa"]
    np.savez(tmp_path / f"{node}.npz", **candidate)  # type: ignore[arg-type]
    checked = check(folder, tmp_path)
    assert checked.returncode == 1
    right = int(arrays["random/outputs/mantissa"][3, 0])
    where = f"the first in step 3, neuron 0: expected {right}, found {right + 1}"
    assert (
        f"random/outputs/mantissa: 1 of {len(arrays['random/outputs/mantissa'])} differ, {where}" in checked.stdout
    )
    assert "ends/outputs/exponent: shape (1, 1), expected (4, 1)" in checked.stdout
    assert "golden/outputs/mantissa: missing" in checked.stdout


def test_a_state_that_cannot_be_read_need_not_be_there_and_a_node_that_is_named_must(
    folder: Path, tmp_path: Path
) -> None:
    node = ROLES["MlGru"]
    outputs = {key: value for key, value in read(folder, node)[1].items() if "/outputs/" in key}
    np.savez(tmp_path / f"{node}.npz", **outputs)  # type: ignore[arg-type]
    assert check(folder, tmp_path).returncode == 0
    checked = check(folder, tmp_path, node, PROJECTION)
    assert checked.returncode == 1
    assert f"{PROJECTION}: not there" in checked.stdout
    (tmp_path / f"{node}.npz").unlink()
    assert check(folder, tmp_path).returncode == 1


def test_the_same_network_gives_the_same_bytes(folder: Path, net: Net, tmp_path: Path) -> None:
    again = api.vectors(net, tmp_path / "again", [ROLES["Residual"]]).path
    for suffix in ("json", "npz"):
        name = Path("nodes") / f"{ROLES['Residual']}.{suffix}"
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_all_nodes_that_compute_have_vectors(folder: Path, net: Net) -> None:
    index = json.loads((folder / "vectors.json").read_text())
    computing = [each for each in net.graph if isinstance(each, NeuronGroup | TernarySynapse | SumSynapse)]
    assert [(each["node"], each["kind"]) for each in index["nodes"]] == [
        (each.name, each.kind) for each in computing
    ]
    files = {path.name for path in (folder / "nodes").iterdir()}
    assert files == {f"{each['node']}.{suffix}" for each in index["nodes"] for suffix in ("json", "npz")}


def test_what_is_refused_leaves_nothing(net: Net, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(net.path, tmp_path / "net"))
    target = tmp_path / "vectors"
    with pytest.raises(UsageError, match=r"vectors of mlgru: .* there are layers\.0\.attn\.mlgru"):
        api.vectors(net, target, ["mlgru"])
    with np.load(copy / "golden.npz") as archive:
        golden = dict(archive)
    golden["embeddings:out"][0, 0] += 1
    np.savez(copy / "golden.npz", **golden)
    with pytest.raises(MismatchError, match=r"embeddings:out is not the golden message"):
        api.vectors(load_net(copy, verify=False), target, ["embeddings"])
    assert not target.exists()
    assert not [each for each in tmp_path.iterdir() if "vectors" in each.name]
    target.mkdir()
    (target / "mine").write_text("")
    with pytest.raises(UsageError, match="exists; give another folder"):
        api.vectors(net, target, ["embeddings"])
    assert [each.name for each in target.iterdir()] == ["mine"]

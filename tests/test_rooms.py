"""The rooms of the package: what may import what, computed from the imports themselves."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "loihi_mmfree"

FLOORS = (
    ("compatibility", "errors", "version", "defaults", "interrupts", "manual", "options", "quiet", "units"),
    ("files", "memory", "scratch", "progress", "untrusted"),
    ("sentencepiece", "tokenizer_file", "private_folder"),
    ("text",),
    ("checkpoint", "fixedpoint", "loihi2"),
    ("model", "ir", "quantize"),
    ("place", "hf"),
    ("net",),
    ("compiler", "processes", "activity"),
    ("rtl",),
    ("sim", "train"),
    ("evaluate",),
    ("search",),
    ("cost",),
    ("report",),
    ("api",),
    ("__init__", "cli"),
)
"""From the ground up, as docs/architecture.md draws them. A room imports rooms of lower floors only."""

NAMES_OF_THE_SAME_THING = {
    # A module of the model, and its node in the layer graph.
    "MlGru": ["compiler/layers.py", "model/layers.py"],
    "Glu": ["compiler/layers.py", "model/layers.py"],
    # A block of the model, and the Lava process that computes one.
    "Block": ["model/layers.py", "processes/block.py"],
    # A node of the lowered graph, and its Lava process.
    "NeuronGroup": ["ir/nodes.py", "processes/neuron_group.py"],
    "Delay": ["ir/synapses.py", "processes/synapse.py"],
}
"""The only names that two public classes of the package share, and where."""

Imports = Mapping[str, set[str]]
"""File -> the files of this package that it imports; both relative to the package."""


def _imported(path: Path, types: bool = True) -> Iterator[str]:
    """Every module that a file names in an import, wherever it stands; or all but those that only types need."""
    tree = ast.parse(path.read_text())
    checked = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    left_out = set() if types else {id(each) for node in checked for each in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def _file_of(module: str) -> str | None:
    """The file of a module of this package."""
    path = ROOT / module.replace(".", "/")
    if path.with_suffix(".py").is_file():
        return str(path.with_suffix(".py").relative_to(PACKAGE))
    return None


def _files(root: Path = PACKAGE) -> Imports:
    found = {}
    for path in sorted(root.rglob("*.py")):
        name = str(path.relative_to(root))
        found[name] = {file for module in _imported(path) if (file := _file_of(module)) and file != name}
    return found


def _room(file: str) -> str:
    return Path(file).parts[0].removesuffix(".py")


def _circle(arrows: Imports) -> list[str]:
    """Names along a circle of arrows, or nothing."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_room_stands_on_a_floor():
    assert {_room(file) for file in _files()} == {room for floor in FLOORS for room in floor}


def test_arrows_between_rooms_go_down():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    up = [
        f"{file} imports {other}"
        for file, others in _files().items()
        for other in sorted(others)
        if _room(file) != _room(other) and floor[_room(file)] <= floor[_room(other)]
    ]
    assert not up, "\n".join(up)


def test_the_command_line_calls_the_python_interface_and_the_ground_floors_only():
    ground = FLOORS[: next(number for number, rooms in enumerate(FLOORS) if "checkpoint" in rooms)]
    allowed = {"cli", "api"}.union(*ground)
    below = [
        f"{path.relative_to(PACKAGE)} imports {file}"
        for path in sorted((PACKAGE / "cli").rglob("*.py"))
        for module in _imported(path, types=False)
        if (file := _file_of(module)) and _room(file) not in allowed
    ]
    assert not below, "\n".join(below)


def test_a_class_name_has_one_meaning():
    defined: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                defined.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: files for name, files in defined.items() if len(files) > 1} == NAMES_OF_THE_SAME_THING


def test_no_files_import_each_other():
    assert _circle(_files()) == []


def test_folders_side_by_side_do_not_import_each_other():
    arrows: dict[str, set[str]] = {}
    for file, others in _files().items():
        for other in others:
            shared = Path(os.path.commonpath([file, other]))
            here, there = (shared / Path(each).relative_to(shared).parts[0] for each in (file, other))
            if here.suffix != ".py" and there.suffix != ".py":
                arrows.setdefault(str(here), set()).add(str(there))
    assert _circle(arrows) == []


@pytest.mark.parametrize("file", [file for file in _files() if Path(file).name != "__init__.py"])
def test_a_module_is_no_hall(file):
    assert len((PACKAGE / file).read_text().splitlines()) <= 400


def test_tests_mirror_rooms():
    rooms = {_room(file) for file in _files()}
    folders = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("*/*.py")}
    assert folders - rooms == {"data", "equivalence", "examples"}

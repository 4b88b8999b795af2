"""Networks that nobody compiled, with hashes that agree: refused before anything is computed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from loihi_mmfree.errors import ArtifactError, UsageError
from loihi_mmfree.net.artifact import load_net
from loihi_mmfree.net.folder import atomic_folder, read_folder

Edit = Callable[[Any], Any]


def edit_json(folder: Path, name: str, edit: Edit) -> None:
    data = json.loads((folder / name).read_text())
    edit(data)
    (folder / name).write_text(json.dumps(data))


def node(graph: Any, name: str) -> Any:
    return next(each for each in graph if each["name"] == name)


def kind(graph: Any, name: str) -> Any:
    return next(each for each in graph if each["type"] == name)


def logits_read_the_tokens(graph: Any) -> None:
    graph[-1].update(inputs=[["tokens", "out"]], size=graph[0]["size"])


def logits_read_a_group(graph: Any) -> None:
    graph[-1].update(inputs=[["embeddings", "out"]], size=graph[0]["size"])


def without(name: str) -> Edit:
    return lambda graph: graph.remove(kind(graph, name))


def twice(name: str) -> Edit:
    def edit(graph: Any) -> None:
        graph.append({**kind(graph, name), "name": "again"})

    return edit


def with_immediate(value: int) -> Edit:
    def edit(graph: Any) -> None:
        graph[1]["program"]["instructions"][-1][3] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (logits_read_the_tokens, "a LogitsOut cannot read a TokenIn"),
        (logits_read_a_group, "a LogitsOut cannot read a NeuronGroup"),
        (without("TokenIn"), "reads tokens:out, which no earlier node sends"),
        (without("LogitsOut"), "has 0 nodes LogitsOut, expected one"),
        (twice("TokenIn"), "has 2 nodes TokenIn, expected one"),
        (twice("LogitsOut"), "has 2 nodes LogitsOut, expected one"),
        (twice("SumSynapse"), "expected one, the last"),
        (lambda graph: graph.insert(-1, {**kind(graph, "SumSynapse"), "name": "again"}), "nobody reads again"),
        (lambda graph: kind(graph, "Delay").update(steps=60), "inputs arrive in different time steps"),
        (lambda graph: kind(graph, "Delay").update(steps=2**62), "a delay of"),
        (lambda graph: graph[0].update(size=2**62), "expected 128 columns|which sends"),
        (lambda graph: graph[-1].update(scale=-1.0), "its scale is -1.0"),
        (with_immediate(2**70), "immediate"),
        (lambda graph: graph[1].update(name="\x1b[2J"), "no earlier node sends|no name of a node"),
        (lambda graph: graph.clear(), "has 0 nodes"),
    ],
)
def test_a_graph_that_lowering_does_not_make_is_refused(net_copy: Path, edit: Edit, words: str) -> None:
    edit_json(net_copy, "graph.json", edit)
    with pytest.raises(ArtifactError, match=words):
        load_net(net_copy, verify=False)


def test_no_logit_is_computed_from_memory_that_nobody_wrote(net_copy: Path) -> None:
    edit_json(net_copy, "graph.json", logits_read_the_tokens)
    edit_json(net_copy, "manifest.json", lambda manifest: manifest["model"].update(vocab_size=128))
    with pytest.raises(ArtifactError, match="a LogitsOut cannot read a TokenIn"):
        load_net(net_copy, verify=False)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda data: data["model"].update(vocab_size=2**20), "vocab_size is 1048576, the graph's 512"),
        (lambda data: data["model"].update(hidden_size=64), "hidden_size is 64, the graph's 128"),
        (lambda data: data["model"].update(vocab_size=10**30), "model: vocab_size is"),
        (lambda data: data["model"].update(eos_token_id="x"), "eos_token_id is 'x'"),
        (lambda data: data.update(depth_steps=7), "depth_steps is 7, the graph's 51"),
        (lambda data: data.update(logit_scale=None), "logit_scale is None"),
        (lambda data: data["config"].update(quantization=3), "quantization.activation_bits is None"),
        (lambda data: data["formats"].update(embeddings=[16, 10**30]), "formats: 'embeddings' is"),
        (lambda data: data["formats"].update(embeddings=[16, 3, 32]), "formats: 'embeddings' is"),
        (lambda data: data["formats"].update(embeddings=[16, 3, 17, 1]), "formats: 'embeddings' is"),
        (lambda data: data.pop("versions"), "lacks versions"),
        (lambda data: data["files"].update({"graph.json": 7}), "files: 'graph.json' is 7"),
    ],
)
def test_a_manifest_of_another_network_is_refused(net_copy: Path, edit: Edit, words: str) -> None:
    edit_json(net_copy, "manifest.json", edit)
    with pytest.raises(ArtifactError, match=re.escape(words)):
        load_net(net_copy, verify=False)


def rewrite_tensors(folder: Path, edit: Edit) -> None:
    tensors = load_file(folder / "weights.safetensors")
    edit(tensors)
    save_file(tensors, folder / "weights.safetensors")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda tensors: tensors["tokens.table"].fill(32767), None),
        (
            lambda tensors: tensors.update({"tokens.table": np.full((512, 128), 2**20, dtype=np.int32)}),
            "takes 16 bits",
        ),
        (lambda tensors: tensors["layers.0.attn.mlgru.gate"].fill(2**30), "its reader takes"),
        (lambda tensors: tensors["tables.sigmoid"].fill(2**30), "its reader takes"),
        (
            lambda tensors: tensors.update({"tables.sigmoid": np.zeros(0, dtype=np.int32)}),
            "a table without entries",
        ),
        (lambda tensors: tensors.update({"tokens.table": tensors["tokens.table"][:100]}), "vocab_size is 512"),
        (lambda tensors: tensors.update(secret=np.zeros(3, dtype=np.uint8)), "tensors that no node names: secret"),
        (lambda tensors: tensors["lm_head.codes"].fill(255), "which is no ternary code"),
    ],
)
def test_tensors_that_programs_do_not_declare_are_refused(net_copy: Path, edit: Edit, words: str | None) -> None:
    rewrite_tensors(net_copy, edit)
    if words is None:
        load_net(net_copy, verify=False)
        return
    with pytest.raises(ArtifactError, match=words):
        load_net(net_copy, verify=False)


def test_thousands_of_unknown_tensors_are_refused_in_a_few_lines(net_copy: Path) -> None:
    rewrite_tensors(
        net_copy, lambda tensors: tensors.update({f"t{n}": np.zeros(1, np.uint8) for n in range(5000)})
    )
    with pytest.raises(ArtifactError, match="and 4995 more") as caught:
        load_net(net_copy, verify=False)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text",
    ['{"a": NaN}', '{"schema_version": 2, "schema_version": 2}', "[" * 10_000, "\ufeff{}", "{}" + " " * 10 + "x"],
)
def test_what_is_not_plain_json_is_refused(net_copy: Path, text: str) -> None:
    (net_copy / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match="manifest"):
        load_net(net_copy)


@pytest.mark.parametrize(
    ("field", "value"), [("core", 10**30), ("chip", 10**30), ("core", 120), ("chip", 1152), ("core", -1)]
)
def test_a_core_that_the_system_does_not_have_is_refused(net_copy: Path, field: str, value: int) -> None:
    edit_json(net_copy, "placement.json", lambda data: data["placement"]["cores"][-1].update({field: value}))
    with pytest.raises(ArtifactError, match=r"placement\.json: not the placement of this network"):
        _ = load_net(net_copy, verify=False).placed


def huge_shape(path: Path) -> None:
    import zipfile

    header = b"{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ids.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04" + bytes(30)),
        lambda path: np.savez(path, ids=np.zeros(3, np.int32)),
        lambda path: np.savez(path, ids=np.array([object()])),
        huge_shape,
    ],
)
def test_a_golden_file_that_is_none_is_refused(net_copy: Path, write: Callable[[Path], None]) -> None:
    write(net_copy / "golden.npz")
    net = load_net(net_copy, verify=False)
    with pytest.raises(ArtifactError, match=r"golden\.npz: cannot be read"):
        net.golden()


@pytest.mark.parametrize(
    "name", ["manifest.json", "graph.json", "weights.safetensors", "placement.json", "golden.npz"]
)
@pytest.mark.parametrize("special", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_refused_at_once(
    net_copy: Path, name: str, special: Callable[[Path], None]
) -> None:
    (net_copy / name).unlink()
    special(net_copy / name)
    with pytest.raises(ArtifactError, match=name):
        load_net(net_copy)


CUT_SHORT = """
import os, sys
from loihi_mmfree import ArtifactError, api
net = api.load(sys.argv[1])
with api.stream(net, [1, 2, 3], 4, backend="engine", stop_at_end_of_text=False) as stream:
    next(stream)
    os.truncate(os.path.join(sys.argv[1], "weights.safetensors"), 0)
    try:
        next(stream)
    except ArtifactError as error:
        print(error.exit_code, error)
"""


def test_weights_that_are_cut_short_during_a_run_are_an_error_and_no_signal(net_copy: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", CUT_SHORT, net_copy], capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(f"3 {net_copy}/weights.safetensors: was changed while it was in use")


def test_weights_shorter_than_they_say_are_refused(net_copy: Path) -> None:
    os.truncate(net_copy / "weights.safetensors", (net_copy / "weights.safetensors").stat().st_size - 4096)
    with pytest.raises(ArtifactError, match=r"weights\.safetensors: cannot be read: its tensors take"):
        load_net(net_copy, verify=False)


def test_a_reader_sees_one_network_while_another_takes_its_place(net_copy: Path, tmp_path: Path) -> None:
    first, second = ({path.name: path.read_bytes() for path in net_copy.iterdir()} for _ in range(2))
    manifest = json.loads(second["manifest.json"])
    second["manifest.json"] = json.dumps({**manifest, "notices": ["second"]}).encode()
    stop = threading.Event()

    def replace() -> None:
        for number in range(10_000):
            if stop.is_set():
                return
            with atomic_folder(net_copy, force=True) as folder:
                for name, content in (first, second)[number % 2].items():
                    (folder / name).write_bytes(
                        content + b" " * (number % 2) if name == "placement.json" else content
                    )

    def read(folder: Any) -> tuple[bool, bool]:
        notices = folder.json("manifest.json")["notices"]
        return bool(notices), folder.read("placement.json", 2**20).endswith(b" ")

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        for _ in range(300):
            assert read_folder(net_copy, read) in ((True, True), (False, False))
    finally:
        stop.set()
        writer.join()


def test_what_is_read_later_is_of_the_network_that_was_loaded(net_copy: Path, tmp_path: Path) -> None:
    net = load_net(net_copy)
    shutil.move(net_copy, tmp_path / "old")
    shutil.copytree(tmp_path / "old", net_copy)
    for later in (net.golden, lambda: net.placed):
        with pytest.raises(ArtifactError, match="was replaced since it was loaded"):
            later()


def others_file(folder: Path) -> None:
    (folder / "thesis.tex").write_text("precious")


def checkpoint_within(folder: Path) -> None:
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "model.safetensors").write_text("precious")


def file_in_report(folder: Path) -> None:
    (folder / "report").mkdir()
    (folder / "report" / "figures.csv").write_text("precious")


def report_elsewhere(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / "report").symlink_to(folder.parent / "elsewhere")


def another_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"name": "a web page"}')


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (others_file, "would remove thesis.tex with it"),
        (checkpoint_within, "would remove checkpoint with it"),
        (file_in_report, "would remove report/figures.csv with it"),
        (report_elsewhere, "would remove report with it"),
        (another_manifest, "is not a compiled network, by its manifest.json"),
    ],
)
def test_force_removes_nothing_but_a_network(net_copy: Path, put: Callable[[Path], None], words: str) -> None:
    put(net_copy)
    before = {path: path.read_bytes() for path in net_copy.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=re.escape(words)), atomic_folder(net_copy, force=True):
        pass
    assert {path: path.read_bytes() for path in net_copy.rglob("*") if path.is_file()} == before


def test_force_removes_nothing_that_came_during_the_compilation(net_copy: Path) -> None:
    def compile_slowly() -> None:
        with atomic_folder(net_copy, force=True) as folder:
            (folder / "manifest.json").write_text("new")
            others_file(net_copy)

    with pytest.raises(UsageError, match=r"thesis\.tex"):
        compile_slowly()
    assert (net_copy / "thesis.tex").read_text() == "precious"


def test_force_replaces_a_network_with_its_report(net_copy: Path) -> None:
    (net_copy / "report").mkdir()
    for name in ("activity.npz", f".activity.npz.{'0' * 32}.partial"):
        (net_copy / "report" / name).touch()
    with atomic_folder(net_copy, force=True) as folder:
        (folder / "manifest.json").write_text("new")
    assert [path.name for path in net_copy.iterdir()] == ["manifest.json"]

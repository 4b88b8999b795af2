"""Disks, folders and memory that give out: each works or says why not, and nothing is lost."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loihi_mmfree.net.artifact import Net

Call = Callable[..., Any]

USAGE, DOES_NOT_FIT = 2, 5
PR_CAPBSET_DROP = 24
OVERRIDES = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what lets root ignore permissions."""

Finished = subprocess.CompletedProcess[str]


def program(*arguments: object, before: Callable[[], None] | None = None, **environment: str) -> Finished:
    """Run the program in a process of its own."""
    command = [sys.executable, "-c", "from loihi_mmfree.cli.main import main; main()", *map(str, arguments)]
    environment = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=300, preexec_fn=before, env=environment)


def obey_permissions() -> None:
    """Give up what lets root ignore permissions; others never had it."""
    for capability in OVERRIDES:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


@pytest.fixture
def permissions(tmp_path: Path) -> None:
    """Skip where even so permissions do not hold."""
    (tmp_path / "probe").mkdir(mode=0o555)
    command = [sys.executable, "-c", f"open({str(tmp_path / 'probe' / 'file')!r}, 'w')"]
    if subprocess.run(command, capture_output=True, preexec_fn=obey_permissions).returncode == 0:
        pytest.skip("this user may write into read-only folders")


@pytest.fixture
def read_only(net_copy: Path, permissions: None) -> Path:
    """A compiled network in folders that nobody may write."""
    for path in (*net_copy.iterdir(), net_copy):
        path.chmod(path.stat().st_mode & ~0o222)
    return net_copy


RUN = ("--backend", "engine", "--ids", "1,2,3", "-n", 3, "--json")


def logits(finished: Finished) -> str:
    assert finished.returncode == 0, finished.stderr
    return str(json.loads(finished.stdout.splitlines()[-1])["logits_sha256"])


def test_a_network_on_a_read_only_disk_runs(call: Call, tiny_net: Net, read_only: Path) -> None:
    expected = call("run", tiny_net.path, *RUN).document["logits_sha256"]
    assert logits(program("run", read_only, *RUN, before=obey_permissions)) == expected


def test_a_processor_without_vector_instructions_computes_the_same(call: Call, tiny_net: Net) -> None:
    expected = call("run", tiny_net.path, *RUN).document["logits_sha256"]
    plain = program("run", tiny_net.path, *RUN, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    assert logits(plain) == expected


def test_a_network_on_a_read_only_disk_is_not_replaced(tiny_checkpoint: Path, read_only: Path) -> None:
    before = {path.name: path.read_bytes() for path in read_only.iterdir()}
    read_only.parent.chmod(0o555)
    found = program("compile", tiny_checkpoint, "-o", read_only, "--force", before=obey_permissions)
    read_only.parent.chmod(0o755)
    assert found.returncode == USAGE
    assert "cannot write there: Permission denied" in found.stderr
    assert {path.name: path.read_bytes() for path in read_only.iterdir()} == before


def test_a_folder_for_graphs_that_is_read_only_is_refused_before_calibration(
    tiny_checkpoint: Path, tmp_path: Path, permissions: None
) -> None:
    (tmp_path / "ir").mkdir(mode=0o555)
    found = program(
        "compile", tiny_checkpoint, "-o", tmp_path / "net", "--dump-ir", tmp_path / "ir", before=obey_permissions
    )
    assert found.returncode == USAGE
    assert f"--dump-ir {tmp_path / 'ir'}: cannot write there" in found.stderr
    assert not (tmp_path / "net").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A disk of 400 kB, which a compiled mmf-tiny overfills."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_full_holds_no_half_network(call: Call, tiny_checkpoint: Path, small_disk: Path) -> None:
    called = call("compile", tiny_checkpoint, "-o", small_disk / "net")
    assert called.code == USAGE
    assert "net: not written: No space left on device; nothing was changed" in called.err
    assert list(small_disk.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not keep to the limit")
def test_memory_that_runs_out_is_said(tiny_checkpoint: Path, tmp_path: Path) -> None:
    def little_memory() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (300_000_000, 300_000_000))

    found = program("compile", tiny_checkpoint, "-o", tmp_path / "net", before=little_memory)
    assert found.returncode == USAGE
    assert f"compile {tiny_checkpoint}: out of memory" in found.stderr
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []


def sparse_checkpoint(folder: Path, **shape: int) -> Path:
    """Write a checkpoint of holes: as large as its header says, and of almost no size on disk."""
    from math import prod

    from loihi_mmfree.checkpoint import ModelConfig, expected_shapes

    folder.mkdir()
    values = {"model_type": "hgrn_bit", **shape}
    (folder / "config.json").write_text(json.dumps(values))
    header, end = {}, 0
    for name, sizes in expected_shapes(ModelConfig.from_dict(values)).items():
        begin, end = end, end + 2 * prod(sizes)
        header[name] = {"dtype": "F16", "shape": list(sizes), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return folder


def test_a_tensor_larger_than_memory_is_refused_at_once(call: Call, tmp_path: Path) -> None:
    shape = {"vocab_size": 2**22, "hidden_size": 2**16, "num_hidden_layers": 1, "intermediate_size": 256}
    checkpoint = sparse_checkpoint(tmp_path / "checkpoint", **shape)
    called = call("compile", checkpoint, "-o", tmp_path / "net", "--weight-bits", 2, "--straddle")
    assert called.code == USAGE
    assert "checkpoint: needs at least 3.3 TB of memory" in called.err
    assert "are free" in called.err
    assert not (tmp_path / "net").exists()


def test_a_network_whose_weights_alone_are_too_many_is_refused_before_they_are_read(
    call: Call, tmp_path: Path
) -> None:
    shape = {"vocab_size": 1000, "hidden_size": 2048, "num_hidden_layers": 24, "intermediate_size": 5632}
    checkpoint = sparse_checkpoint(tmp_path / "checkpoint", **shape)
    called = call("compile", checkpoint, "-o", tmp_path / "net")
    # Weights of zeros would be refused as damaged, had one been read.
    assert called.code == DOES_NOT_FIT
    assert "each of 24 blocks: 392 cores of one chip, at most 120 (--weight-bits 2)" in called.err
    assert not (tmp_path / "net").exists()

"""Damaged and forged networks by the thousand: each runs, or is refused with one kind of error.

`pytest -m slow tests/net/test_fuzzed_nets.py` tries a few hundred; FUZZ_COUNT=10000 as many as it says.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.activity.file import load_activity, save_activity
from loihi_mmfree.api import run
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.errors import LoihiMmfreeError
from loihi_mmfree.net.artifact import Net, file_sha256, load_net, tensor_sha256
from loihi_mmfree.net.tensor_file import read_tensors
from loihi_mmfree.place.traffic import traffic
from loihi_mmfree.report.summary import summarize
from loihi_mmfree.text import Tokenizer

COUNT, FIRST = int(os.environ.get("FUZZ_COUNT", "200")), int(os.environ.get("FUZZ_FIRST", "0"))
SEED = 12
VALUES: list[Any] = [
    None, True, -1, 0, 1, 2, 7, 63, 64, 2**31, 2**62, 2**63, 2**70, 10**30, -(2**40), 0.5, 1e308, "", "out",
    "x" * 300, "\x1b[2J", "../../etc/passwd", [], [[]], {}, {"a": 1}, "ids",
    "TokenIn", "LogitsOut", "NeuronGroup", "select",
]  # fmt: skip
FILES = ("manifest.json", "graph.json", "placement.json", "weights.safetensors", "golden.npz", "config.toml")
MORE = ("tokenizer.json", "report/activity.npz")


def bytes_of(draw: random.Random, content: bytes) -> bytes:
    """Change, cut, repeat or insert some bytes."""
    changed, at = bytearray(content), draw.randrange(max(1, len(content)))
    match draw.randrange(5):
        case 0:
            for _ in range(draw.choice((1, 1, 3, 50))):
                if changed:
                    changed[draw.randrange(len(changed))] = draw.randrange(256)
        case 1:
            del changed[at:]
        case 2:
            del changed[at : at + draw.randrange(1, 64)]
        case 3:
            changed[at:at] = draw.randbytes(draw.randrange(1, 64))
        case _:
            changed[at:at] = changed[draw.randrange(len(changed) or 1) :][:64]
    return bytes(changed)


def structure_of(draw: random.Random, data: Any) -> Any:
    """Replace, remove, repeat or move a value somewhere within JSON data."""
    inner: Any = data
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        if not keys:
            return draw.choice(VALUES)
        key = draw.choice(keys)
        if isinstance(inner[key], dict | list) and inner[key] and draw.random() < 0.85:
            inner = inner[key]
            continue
        match draw.randrange(4):
            case 0 | 1:
                inner[key] = draw.choice(VALUES)
            case 2:
                del inner[key]
            case _:
                other = draw.choice(keys)
                inner[key], inner[other] = inner[other], inner[key]
                if isinstance(inner, list):
                    inner.insert(draw.randrange(len(inner)), inner[other])
        return data


def json_of(draw: random.Random, content: bytes) -> bytes:
    return json.dumps(structure_of(draw, json.loads(content))).encode()


def tensors_of(draw: random.Random, content: bytes) -> bytes:
    """Change the header, or single values behind it."""
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], bytearray(content[8 + length :])
    if draw.random() < 0.5:
        header = json_of(draw, header)
    else:
        for _ in range(draw.choice((1, 4))):
            data[draw.randrange(len(data))] = draw.choice((0, 255, draw.randrange(256)))
    return len(header).to_bytes(8, "little") + header + bytes(data)


def arrays_of(draw: random.Random, content: bytes) -> bytes:
    """Write an npz file anew with an array changed, left out or renamed."""
    with np.load(io.BytesIO(content)) as archive:
        arrays = dict(archive)
    name = draw.choice(sorted(arrays))
    array = arrays[name]
    match draw.randrange(6):
        case 0:
            del arrays[name]
        case 1:
            arrays[draw.choice(("x", "ids", "../x"))] = arrays.pop(name)
        case 2:
            arrays[name] = array[: len(array) // 2]
        case 3:
            arrays[name] = np.zeros(draw.choice([(0,), (1,), (2, 3), (10**7,), ()]), dtype=np.int32)
        case 4 if array.dtype.kind == "i":
            arrays[name] = array + draw.choice((1, -1, 2**30))
        case _:
            arrays[name] = array.astype(np.float64) if array.dtype.kind == "i" else array[::-1]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def mutated(draw: random.Random, name: str, content: bytes) -> bytes:
    """A file changed in a way that suits its kind, or byte by byte."""
    kinds: dict[str, Callable[[random.Random, bytes], bytes]] = {
        "json": json_of,
        "safetensors": tensors_of,
        "npz": arrays_of,
    }
    change = kinds.get(name.rsplit(".", 1)[1], bytes_of)
    return (bytes_of if draw.random() < 0.3 else change)(draw, content)


def forge(folder: Path) -> None:
    """Make the manifest's hashes agree with the files, as far as it still has any."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, LoihiMmfreeError):
        manifest = json.loads((folder / "manifest.json").read_bytes())
        for name in manifest["files"]:
            manifest["files"][name] = file_sha256(folder / name)
        with (folder / "weights.safetensors").open("rb") as file:
            tensors, _ = read_tensors(file, "")
        manifest["tensors"] = {name: tensor_sha256(tensor) for name, tensor in tensors.items()}
        (folder / "manifest.json").write_text(json.dumps(manifest))


def use(folder: Path, verify: bool) -> None:
    """Do with a network what commands do."""
    net = load_net(folder, verify)
    net.golden()
    summarize(net)
    traffic(net.graph, net.placed.chip, net.placed.placement)
    load_activity(folder, net.graph)
    if net.tokenizer_path is not None:
        Tokenizer(net.tokenizer_path).encode("It was")
    CompileConfig.from_toml((folder / "config.toml").read_text(encoding="utf-8", errors="replace"), "config.toml")
    run(net, [1, 2, 3], 1, backend="engine", kernels="numpy")


@pytest.fixture
def recorded(tiny_net: Net, tmp_path: Path) -> Path:
    """A copy of the network with a recorded activity in it."""
    copy = Path(shutil.copytree(tiny_net.path, tmp_path / "net"))
    activity = run(tiny_net, [1, 2, 3], 1, backend="engine", kernels="numpy", activity=True).activity
    assert activity is not None
    save_activity(copy, activity)
    return copy


@pytest.mark.slow
def test_a_damaged_or_forged_network_runs_or_is_refused(recorded: Path) -> None:
    kept = {name: (recorded / name).read_bytes() for name in (*FILES, *MORE)}
    used = longest = 0
    for number in range(FIRST, FIRST + COUNT):
        draw = random.Random(SEED * 10**6 + number)
        changed = {draw.choice((*FILES, *FILES, *MORE)) for _ in range(draw.choice((1, 1, 1, 2)))}
        for name in sorted(changed):
            (recorded / name).write_bytes(mutated(draw, name, (recorded / name).read_bytes()))
        forged = draw.random() < 0.7
        if forged:
            forge(recorded)
        try:
            use(recorded, verify=draw.random() < 0.8)
            used += 1
        except LoihiMmfreeError as error:
            longest = max(longest, len(str(error)))
        except Exception as error:
            raise AssertionError(f"network {number} of {SEED}: {sorted(changed)}, forged: {forged}") from error
        for name in {*changed, "manifest.json"}:
            (recorded / name).write_bytes(kept[name])
    use(recorded, verify=True)
    assert used < COUNT
    assert longest < 10_000
    assert {str(path.relative_to(recorded)) for path in recorded.rglob("*") if path.is_file()} == set(kept)
    assert [path.name for path in recorded.parent.iterdir()] == ["net"]

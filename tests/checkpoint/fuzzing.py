"""Compile mutated checkpoints, one after another: `python fuzzing.py FOLDER FIRST COUNT`.

Run in a process of its own, so that a signal is seen and memory measured. Every checkpoint must compile or end in
one of the package's own errors, and leave nothing but a whole network. Prints counts and the growth of memory.
"""

from __future__ import annotations

import json
import pickle
import random
import resource
import shutil
import sys
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from loihi_mmfree.checkpoint import ModelConfig, expected_shapes
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.compiler.pipeline import compile_checkpoint
from loihi_mmfree.errors import LoihiMmfreeError

VALUES = {
    "model_type": "hgrn_bit",
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "intermediate_size": 8,
}
QUICK = CompileConfig(calibration_tokens=8, golden_tokens=1)
STRANGE: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 3, 2**31, 2**63, 2**70, 10**300, 1e-320, 1e308),
    *("", "x", "é\x1b[2J", "../x", "a" * 5000),
    *([], {}, [[]], [1, 2], {"a": 1}, [None] * 50),
)
SENTENCEPIECE = Path(__file__).parent.parent / "data" / "sentencepiece" / "tokenizer.model"
Draw = random.Random


def write_folder(folder: Path, draw: Draw) -> None:
    """One safetensors file, with or without a tokenizer."""
    save_file(state(draw), folder / "model.safetensors")
    if draw.random() < 0.2:
        shutil.copy(SENTENCEPIECE, folder)


def write_shards(folder: Path, draw: Draw) -> None:
    """Two shards and their index."""
    tensors = state(draw)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, folder / shard)
    index = {"weight_map": {name: shard for shard, members in shards.items() for name in members}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_torch(folder: Path, draw: Draw) -> None:
    """A state dict in the zip format, bare or within the state of a training run."""
    tensors: Any = state(draw)
    content = draw.choice([tensors, {"model": tensors, "config": VALUES, "step": 3}, {"a": {"b": tensors}}])
    torch.save(content, folder / "pytorch_model.bin", pickle_protocol=draw.choice([2, 3, 4, 5]))


def write_legacy(folder: Path, draw: Draw) -> None:
    """The format before PyTorch 1.6."""
    torch.save(state(draw), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def write_pickle(folder: Path, draw: Draw) -> None:
    """A zip archive around a pickle of nested plain values and drawn operations."""
    value: Any = draw.choice(STRANGE)
    for _ in range(draw.randrange(30)):
        value = draw.choice([[value], {"model": value}, (value, value), {draw.choice(["a", 1, None]): value}])
    content = pickle.dumps(value, protocol=draw.choice([2, 4]))
    drawn = draw.choices(b"(.0123NJKXq])}tsubhcQR\x85\x86\x88\x8a\x8c\x93\x94", k=draw.randrange(40))
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", content[:-1] + bytes(drawn) + b".")


WRITERS = (write_folder, write_folder, write_shards, write_torch, write_torch, write_legacy, write_pickle)


def state(draw: Draw) -> dict[str, torch.Tensor]:
    """Random tensors of the right names and shapes."""
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    kind = draw.choice([torch.float16, torch.bfloat16, torch.float32, torch.float64])
    shapes = expected_shapes(ModelConfig.from_dict(VALUES))
    return {name: torch.randn(shape, generator=generator).to(kind) for name, shape in shapes.items()}


def alter_bytes(path: Path, draw: Draw) -> None:
    """Alter some bytes, most likely where names, sizes and offsets are."""
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 1, 2, 8])):
        if content:
            place = draw.choice([draw.randrange(len(content)), min(len(content) - 1, draw.randrange(400))])
            content[place] = draw.choice([draw.randrange(256), content[place] ^ 1 << draw.randrange(8), 0, 255])
    path.write_bytes(content)


def alter_end(path: Path, draw: Draw) -> None:
    """Alter bytes of the last kilobyte, where an archive has its directory."""
    content = bytearray(path.read_bytes())
    for _ in range(draw.randrange(1, 5)):
        if content:
            content[-1 - draw.randrange(min(len(content), 1024))] = draw.randrange(256)
    path.write_bytes(content)


def cut(path: Path, draw: Draw) -> None:
    """Cut the file short."""
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content) + 1)])


def repeat(path: Path, draw: Draw) -> None:
    """Put a piece of the file in again somewhere else."""
    content = path.read_bytes()
    begin, where = draw.randrange(len(content) + 1), draw.randrange(len(content) + 1)
    path.write_bytes(content[:where] + content[begin : begin + draw.randrange(200)] + content[where:])


def alter_json(path: Path, draw: Draw) -> None:
    """Replace a value of a JSON file, or of the header of a safetensors file; other files are cut."""
    content = path.read_bytes()
    is_header = path.suffix == ".safetensors"
    begin = 8 if is_header else 0
    end = 8 + int.from_bytes(content[:8], "little") if is_header else len(content)
    try:
        data = json.loads(content[begin:end])
    except ValueError:
        return cut(path, draw)
    place = data
    while isinstance(place, dict | list) and place:
        key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not isinstance(place[key], dict | list) or not place[key] or draw.random() < 0.3:
            if isinstance(place, dict) and draw.random() < 0.3:
                place[str(draw.choice(STRANGE))] = place.pop(key)
            else:
                place[key] = draw.choice(STRANGE)
            break
        place = place[key]
    header = json.dumps(data).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:] if is_header else header)
    return None


def replace_file(path: Path, draw: Draw) -> None:
    """Put something else in the file's place."""
    path.unlink()
    kind = draw.randrange(4)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        path.symlink_to(draw.choice(["/dev/zero", "/nowhere", path.name]))
    elif kind == 2:
        path.write_bytes(draw.randbytes(draw.randrange(3000)))


MUTATIONS: tuple[Callable[[Path, Draw], None], ...] = (
    alter_bytes, alter_bytes, alter_bytes, alter_end, cut, repeat, alter_json, alter_json, replace_file,
)  # fmt: skip


def make(folder: Path, seed: int) -> None:
    """Write the checkpoint of a seed."""
    draw = Draw(seed)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(VALUES))
    if draw.random() < 0.1:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))
    draw.choice(WRITERS)(folder, draw)
    weights = sorted(path for path in folder.iterdir() if path.suffix not in (".json", ".model"))
    for _ in range(draw.choice([1, 1, 1, 2])):
        files = sorted(path for path in folder.iterdir() if path.is_file())
        if files:
            likely = [path for path in weights if path in files] or files
            draw.choice(MUTATIONS)(draw.choice(draw.choice([files, likely])), draw)


def main(place: Path, first: int, count: int) -> int:
    """Compile the checkpoints of `count` seeds."""
    warnings.simplefilter("ignore")
    ends: Counter[str] = Counter()
    before = 0
    for seed in range(first, first + count):
        checkpoint, net = place / "checkpoint", place / "out" / "net"
        make(checkpoint, seed)
        try:
            compile_checkpoint(checkpoint, net, QUICK)
            ends["compiled"] += 1
        except LoihiMmfreeError as error:
            ends[type(error).__name__] += 1
            if len(str(error)) > 8000 or "\x1b" in str(error):
                print(f"seed {seed}: a message of {len(str(error))} characters: {str(error)[:300]!r}", flush=True)
                return 1
        except BaseException:
            print(f"seed {seed}\n{traceback.format_exc()}", flush=True)
            return 1
        left = sorted(path.name for path in net.parent.iterdir()) if net.parent.exists() else []
        if left not in ([], ["net"]):
            print(f"seed {seed}: left {left}", flush=True)
            return 1
        shutil.rmtree(checkpoint)
        shutil.rmtree(net.parent, ignore_errors=True)
        if seed == first:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"ends": ends, "grown_mb": grown}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))

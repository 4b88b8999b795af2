"""Write a checkpoint of full size with random weights, for tests and benchmarks of speed and memory.

The tensors have the names and shapes of a published model and plausible statistics: projections and
embedding normal with the initial standard deviation, gains of norms around one, lower bounds around zero. It
says nothing sensible, but it compiles and runs like the real one. Tensors are made and written one at a time.

    python benchmarks/random_checkpoint.py 370M random-370M/
    python benchmarks/random_checkpoint.py 370M --layers 2 random-370M-short/
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from loihi_mmfree.checkpoint import ModelConfig, parameter_count
from loihi_mmfree.checkpoint.config import PUBLISHED_CONFIGS
from loihi_mmfree.checkpoint.tensors import expected_shapes

SHARD_BYTES = 5 * 10**9
"""Largest file of weights; above it a checkpoint has several and an index, as Hugging Face writes them."""
ELEMENT_BYTES = 2
_CHUNK = 1 << 22


def write_checkpoint(config: ModelConfig, folder: Path, seed: int = 0, shard_bytes: int = SHARD_BYTES) -> None:
    """Write config.json and float16 safetensors.

    Parameters
    ----------
    config : ModelConfig
    folder : Path
        Made if it does not exist.
    seed : int
    shard_bytes : int
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n")
    shards = _shards(expected_shapes(config), shard_bytes)
    index: dict[str, str] = {}
    for number, shapes in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        index |= dict.fromkeys(shapes, name)
        with (folder / name).open("wb") as file:
            _write_shard(file, shapes, config, seed)
    if len(shards) > 1:
        size = ELEMENT_BYTES * parameter_count(config)
        content = {"metadata": {"total_size": size}, "weight_map": index}
        (folder / "model.safetensors.index.json").write_text(json.dumps(content, indent=1) + "\n")


def _shards(shapes: Mapping[str, tuple[int, ...]], shard_bytes: int) -> list[dict[str, tuple[int, ...]]]:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in shapes.items():
        more = ELEMENT_BYTES * math.prod(shape)
        if shards[-1] and size + more > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += more
    return shards


def _write_shard(file: BinaryIO, shapes: Mapping[str, tuple[int, ...]], config: ModelConfig, seed: int) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + ELEMENT_BYTES * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name, shape in shapes.items():
        for part in _tensor(name, math.prod(shape), config, seed):
            file.write(part.astype("<f2").tobytes())


def _tensor(name: str, size: int, config: ModelConfig, seed: int) -> Iterator[np.ndarray]:
    """Yield the elements of a tensor; each has its own stream of random numbers."""
    random = np.random.default_rng([seed, *name.encode()])
    gain = name.endswith("norm.weight")
    center, deviation = (1.0, 0.1) if gain else (0.0, config.initializer_range)
    for begin in range(0, size, _CHUNK):
        values = random.standard_normal(min(_CHUNK, size - begin), dtype=np.float32)
        values *= np.float32(deviation)
        yield values + np.float32(center)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a checkpoint of full size with random weights.")
    parser.add_argument("size", choices=sorted(PUBLISHED_CONFIGS), help="shape of a published model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, help="number of blocks, if not the published one")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = PUBLISHED_CONFIGS[arguments.size]
    if arguments.layers is not None:
        config = replace(config, num_hidden_layers=arguments.layers)
    write_checkpoint(config, arguments.folder, arguments.seed)


if __name__ == "__main__":
    main()

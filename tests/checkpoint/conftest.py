"""Small made-up checkpoints, written in whichever form a test needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from loihi_mmfree.checkpoint import ModelConfig, expected_shapes

State = dict[str, torch.Tensor]


@pytest.fixture
def values() -> dict[str, Any]:
    """The content of a config.json of a very small model."""
    return {
        "model_type": "hgrn_bit",
        "vocab_size": 11,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "intermediate_size": 16,
    }


@pytest.fixture
def make_state() -> Callable[[dict[str, Any]], State]:
    """A function from a configuration to random fp16 tensors of the right names and shapes."""

    def make(values: dict[str, Any]) -> State:
        generator = torch.Generator().manual_seed(0)
        shapes = expected_shapes(ModelConfig.from_dict(values))
        return {name: torch.randn(shape, generator=generator).half() for name, shape in shapes.items()}

    return make


@pytest.fixture
def state(values: dict[str, Any], make_state: Callable[[dict[str, Any]], State]) -> State:
    """The tensors of the very small model."""
    return make_state(values)


@pytest.fixture
def folder(tmp_path: Path, values: dict[str, Any]) -> Path:
    """A folder that holds config.json and nothing else yet."""
    (tmp_path / "config.json").write_text(json.dumps(values))
    return tmp_path


@pytest.fixture
def write_shards(folder: Path) -> Callable[[State], Path]:
    """A function that writes a state dict as two safetensors shards and their index into `folder`."""

    def write(state: State) -> Path:
        names = sorted(state)
        shards = {
            "model-00001-of-00002.safetensors": names[::2],
            "model-00002-of-00002.safetensors": names[1::2],
        }
        for shard, members in shards.items():
            save_file({name: state[name] for name in members}, folder / shard)
        weight_map = {name: shard for shard, members in shards.items() for name in members}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return folder

    return write

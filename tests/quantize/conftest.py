"""The shipped tiny checkpoint, and made-up ones of any shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from loihi_mmfree.checkpoint import Checkpoint, ModelConfig, expected_shapes, open_checkpoint

TINY = Path(__file__).parent.parent / "data" / "mmf-tiny"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: for matrices this small, more only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> Checkpoint:
    """The checkpoint mmf-tiny."""
    return open_checkpoint(TINY)


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Checkpoint]:
    """A function that writes and opens a small random checkpoint.

    Keywords change its config.json; `tensors` replaces tensors, by name.
    """

    def make(tensors: dict[str, torch.Tensor] | None = None, **changes: object) -> Checkpoint:
        values = {
            "model_type": "hgrn_bit",
            "vocab_size": 23,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "intermediate_size": 24,
        } | changes
        generator = torch.Generator().manual_seed(0)
        shapes = expected_shapes(ModelConfig.from_dict(values))
        state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        (tmp_path / "config.json").write_text(json.dumps(values))
        save_file(state | (tensors or {}), tmp_path / "model.safetensors")
        return open_checkpoint(tmp_path)

    return make

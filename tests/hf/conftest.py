"""The shipped checkpoints as transformers loads them, and very small models of any shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.model.language_model import MatMulFreeLM

DATA = Path(__file__).parent.parent / "data"

# The extra `hf` is optional.
collect_ignore_glob = [] if find_spec("transformers") else ["test_*.py"]


@dataclass(frozen=True)
class Loaded:
    """A folder, the model that transformers makes of it, our own, and what upstream computed in fp32."""

    folder: Path
    model: Any
    own: MatMulFreeLM
    golden: Mapping[str, np.ndarray]

    def ids(self, prompt: str) -> torch.Tensor:
        """The golden prompt a, b or c as a batch of one [1, T]."""
        return torch.tensor(self.golden[f"{prompt}/input_ids"], dtype=torch.int64)[None]


@pytest.fixture(scope="session", params=["mmf-tiny", "mmf-demo"])
def loaded(request: pytest.FixtureRequest, tiny_checkpoint: Path, demo_checkpoint: Path) -> Loaded:
    """Each of the two shipped checkpoints in turn. Read it only."""
    return load({"mmf-tiny": tiny_checkpoint, "mmf-demo": demo_checkpoint}[request.param])


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint: Path) -> Loaded:
    """The smaller of the two, where one is enough. Read it only."""
    return load(tiny_checkpoint)


def load(folder: Path) -> Loaded:
    from transformers import AutoModelForCausalLM

    import loihi_mmfree.hf  # noqa: F401 (registers)

    # transformers 4 loads in float32 unless told otherwise, transformers 5 in the type of the file.
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
    own = MatMulFreeLM.from_checkpoint(open_checkpoint(folder))
    return Loaded(folder, model, own, dict(np.load(DATA / folder.name / "golden.npz")))


@pytest.fixture
def make_model() -> Callable[..., Any]:
    """A function that makes a very small, freshly drawn model; keywords change its configuration."""

    def make(**changes: object) -> Any:
        from loihi_mmfree.hf import HGRNBitConfig, HGRNBitForCausalLM

        values = {"vocab_size": 13, "hidden_size": 16, "num_hidden_layers": 3, "intermediate_size": 16}
        torch.manual_seed(0)
        model = HGRNBitForCausalLM(HGRNBitConfig(**(values | {"eos_token_id": None} | changes)))
        if model.model.lower_bounds is not None:
            torch.nn.init.normal_(model.model.lower_bounds)
        return model.eval()

    return make

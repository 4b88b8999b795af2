"""The two shipped checkpoints with their golden outputs, and very small models of any shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import loihi_mmfree
from loihi_mmfree.checkpoint import ModelConfig, open_checkpoint
from loihi_mmfree.model.language_model import MatMulFreeLM

DATA = Path(__file__).parent.parent / "data"
CHECKPOINTS = {
    "mmf-tiny": DATA / "mmf-tiny",
    "mmf-demo": Path(loihi_mmfree.__file__).parent / "data" / "mmf-demo",
}


@dataclass(frozen=True)
class Reference:
    """A model and what upstream's code computed from the same weights in fp32."""

    model: MatMulFreeLM
    tokenizer_path: Path
    golden: Mapping[str, np.ndarray]

    def run(self, prompt: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return logits [T, V] and taps [T, width] for the golden prompt a, b or c."""
        taps: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            logits, _ = self.model(torch.tensor(self.golden[f"{prompt}/input_ids"])[None], taps=taps)
        return logits[0].numpy(), {name: tap[0].numpy() for name, tap in taps.items()}


@pytest.fixture(scope="session", params=sorted(CHECKPOINTS))
def reference(request: pytest.FixtureRequest) -> Reference:
    """Each of the two shipped checkpoints in turn."""
    return load_reference(request.param)


@pytest.fixture(scope="session")
def tiny_reference() -> Reference:
    """The smaller of the two, where one is enough."""
    return load_reference("mmf-tiny")


def load_reference(name: str) -> Reference:
    checkpoint = open_checkpoint(CHECKPOINTS[name])
    assert checkpoint.tokenizer_path is not None
    model = MatMulFreeLM.from_checkpoint(checkpoint)
    return Reference(model, checkpoint.tokenizer_path, dict(np.load(DATA / name / "golden.npz")))


@pytest.fixture
def make_model() -> Callable[..., MatMulFreeLM]:
    """A function that makes a very small, freshly initialised model; keywords change its configuration."""

    def make(**changes: object) -> MatMulFreeLM:
        values = {
            "model_type": "hgrn_bit",
            "vocab_size": 13,
            "hidden_size": 8,
            "num_hidden_layers": 3,
            "intermediate_size": 16,
        }
        torch.manual_seed(0)
        model = MatMulFreeLM(ModelConfig.from_dict(values | changes))
        if model.model.lower_bounds is not None:
            torch.nn.init.normal_(model.model.lower_bounds)
        return model.eval()

    return make

"""A text, a very small recipe, and a training of it that others are held against."""

from __future__ import annotations

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest

import loihi_mmfree

# The extra `train` is optional.
collect_ignore_glob = [] if find_spec("accelerate") else ["test_*.py"]

RECIPE = """\
steps = 30
batch = 4
micro_batch = 2
window = 32
seed = 7
save_every = 4

[model]
vocab_size = 300
hidden_size = 32
num_hidden_layers = 2
intermediate_size = 48
"""


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 kB of public-domain prose, the beginning of the text that calibration reads."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(files("loihi_mmfree").joinpath("data/calibration.txt").read_text()[:20_000])
    return path


@pytest.fixture(scope="session")
def recipe() -> loihi_mmfree.Recipe:
    """Two blocks of width 32, 30 steps."""
    return loihi_mmfree.Recipe.from_toml(RECIPE, "RECIPE")


@pytest.fixture(scope="session")
def uninterrupted(
    text: Path, recipe: loihi_mmfree.Recipe, tmp_path_factory: pytest.TempPathFactory
) -> loihi_mmfree.Training:
    """The whole training in one go. Read it only."""
    output = tmp_path_factory.mktemp("uninterrupted") / "checkpoint"
    found = loihi_mmfree.train(output, recipe, text=text, device="cpu")
    assert found is not None
    return found

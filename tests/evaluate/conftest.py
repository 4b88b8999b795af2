"""A short text and a few questions, the models that answer them, and how the float model is read whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.evaluate.opening import Opened, open_model
from loihi_mmfree.model.language_model import MatMulFreeLM, logits_function
from loihi_mmfree.net.artifact import Net

PROSE = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of "
    "foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of light. "
)
QUESTIONS = (
    {"query": "Question: What falls from clouds?", "choices": ["rain", "a stone", "the moon"], "gold": 0},
    {"query": "Question: What do bees make?", "choices": ["a house of bricks", "honey"], "gold": 1},
    {"query": "Question: Where do fish live?", "choices": ["in trees", "in water", "on the sun"], "gold": 1},
    {"query": "Question: What is cold?\n", "choices": ["fire", "ice"], "gold": 1},
    {"query": "The sun rises in the", "choices": ["east", "west"], "gold": 0},
)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of some hundred tokens."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(PROSE * 2)
    return path


@pytest.fixture(scope="session")
def task_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five questions with answers to choose from."""
    path = tmp_path_factory.mktemp("task") / "questions.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in QUESTIONS))
    return path


@pytest.fixture(scope="session")
def integers(tiny_net: Net) -> Iterator[Opened]:
    """The integers of mmf-tiny on the compiled engine."""
    opened = open_model(tiny_net, backend="engine")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def both(tiny_net: Net, tiny_checkpoint: Path) -> Iterator[Opened]:
    """The integers of mmf-tiny, with its float model beside them."""
    opened = open_model(tiny_net, tiny_checkpoint, backend="engine")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def real(tiny_checkpoint: Path) -> Iterator[Opened]:
    """The float model of mmf-tiny."""
    opened = open_model(tiny_checkpoint, device="cpu")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def float_logits(tiny_checkpoint: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function from ids [T] to the logits [T, V] of mmf-tiny's float model, by one call of the model."""
    return logits_function(MatMulFreeLM.from_checkpoint(open_checkpoint(tiny_checkpoint)))

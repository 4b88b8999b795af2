"""Fixtures that all tests share: the two shipped checkpoints, compiled once a session."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from loihi_mmfree.compiler.artifact import Net, load_net
from loihi_mmfree.compiler.pipeline import compile_checkpoint

ROOT = Path(__file__).parent.parent

# Lava's last release imports on Python 3.10 only; everything else is tested on later ones too.
collect_ignore = [] if find_spec("lava") else ["sim", "processes", "equivalence", "examples"]


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Path:
    """mmf-tiny: hidden 128, 4 blocks, vocabulary 512."""
    return ROOT / "tests" / "data" / "mmf-tiny"


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    """mmf-demo: hidden 256, 6 blocks, vocabulary 2048; it comes with the package."""
    return ROOT / "loihi_mmfree" / "data" / "mmf-demo"


@pytest.fixture(scope="session")
def tiny_net(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Net:
    """mmf-tiny compiled with the default settings. Read it only."""
    return compile_checkpoint(tiny_checkpoint, tmp_path_factory.mktemp("tiny") / "net")[0]


@pytest.fixture(scope="session")
def demo_net(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Net:
    """mmf-demo compiled with the default settings. Read it only."""
    return compile_checkpoint(demo_checkpoint, tmp_path_factory.mktemp("demo") / "net")[0]


@pytest.fixture
def net_copy(tiny_net: Net, tmp_path: Path) -> Path:
    """A copy of the compiled mmf-tiny that a test may damage."""
    return Path(shutil.copytree(tiny_net.path, tmp_path / "net"))


@pytest.fixture
def tiny_copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint mmf-tiny that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


@pytest.fixture
def reloaded(tiny_net: Net) -> Net:
    """The compiled mmf-tiny, read back from its files."""
    return load_net(tiny_net.path)

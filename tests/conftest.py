"""Fixtures that all tests share: the shipped checkpoints compiled once a session, and others of any shape."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from loihi_mmfree.checkpoint import Checkpoint, ModelConfig, expected_shapes, open_checkpoint
from loihi_mmfree.compatibility import mend_lava
from loihi_mmfree.compiler.layers import layer_graph
from loihi_mmfree.compiler.passes.balance_delays import balance_delays
from loihi_mmfree.compiler.passes.drop_gate_norm import drop_gate_norm
from loihi_mmfree.compiler.passes.lower import lower
from loihi_mmfree.compiler.passes.merge_norms import merge_norms
from loihi_mmfree.compiler.passes.share_statistics import share_statistics
from loihi_mmfree.compiler.pipeline import compile_checkpoint
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.loihi2.hardware import LOIHI2
from loihi_mmfree.net.artifact import Net, load_net
from loihi_mmfree.quantize.calibration import calibrate
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.sim.session.chip import extension_installed

ROOT = Path(__file__).parent.parent

# pip installs Lava's last release on Python 3.10 only, uv everywhere; without it everything else is tested.
collect_ignore_glob = (
    []
    if find_spec("lava")
    else ["sim/lava", "processes", "equivalence/*lava*", "equivalence/*shipped*", "examples"]
)

mend_lava()

# Without a GPU, Triton's own interpreter runs the kernels of tests. It is asked when Triton is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# A shell without job control starts what runs in its background deaf to Ctrl-C, and so are the children of that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what `--backend loihi2` was tested against, also where a quiet run shows no header."""
    found = "Intel's extension: tests marked loihi2 ran on it" if extension_installed() else "stand-ins alone"
    terminalreporter.write_line(f"loihi2: {found}")


@dataclass(frozen=True)
class Lowered:
    """A network at each stage of its compilation.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : int64 array [T]
        What it was calibrated on.
    formats : mapping of str to QFormat
        What the calibration chose.
    layers : Graph
        After the passes over layers.
    unscheduled : Graph
        Synapses and groups, before delays are put in.
    graph : Graph
        Scheduled.
    """

    checkpoint: Checkpoint
    ids: np.ndarray
    formats: Mapping[str, QFormat]
    layers: Graph
    unscheduled: Graph
    graph: Graph


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: for matrices this small, more only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Checkpoint]:
    """A function that writes and opens a random checkpoint.

    Keywords change its config.json; `tensors` replaces tensors, by name.
    """

    def make(tensors: Mapping[str, Any] | None = None, **changes: object) -> Checkpoint:
        values = {
            "model_type": "hgrn_bit",
            "vocab_size": 32,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "intermediate_size": 24,
        } | changes
        folder = tmp_path_factory.mktemp("checkpoint")
        (folder / "config.json").write_text(json.dumps(values))
        random = np.random.default_rng(0)
        state = {}
        for name, shape in expected_shapes(ModelConfig.from_dict(values)).items():
            drawn = random.standard_normal(shape)
            # Gains of trained norms scatter about one, and now and then one is negative.
            gain = np.where(random.random(shape) < 0.1, -1, 1) * (1 + 0.2 * drawn)
            state[name] = (gain if name.endswith("norm.weight") else 0.5 * drawn).astype(np.float32)
        replaced = {name: np.asarray(tensor) for name, tensor in (tensors or {}).items()}
        save_file(state | replaced, folder / "model.safetensors")
        return open_checkpoint(folder)

    return make


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


@pytest.fixture
def shared_memory_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the shared memory that Lava makes during a test, in /dev/shm while it exists."""
    from lava.magma.runtime.message_infrastructure.shared_memory_manager import SharedMemoryManager

    names: list[str] = []
    create = SharedMemoryManager.create_shared_memory

    def create_and_record(self: SharedMemoryManager, size: int) -> object:
        memory = create(self, size)
        names.append(memory.name)
        return memory

    monkeypatch.setattr(SharedMemoryManager, "create_shared_memory", create_and_record)
    return names


@pytest.fixture(scope="session")
def lower_checkpoint() -> Callable[..., Lowered]:
    """A function that takes a checkpoint through the whole chain; keywords set the widths."""

    def run(checkpoint: Checkpoint, **widths: int) -> Lowered:
        ids = np.random.default_rng(1).integers(checkpoint.config.vocab_size, size=48)
        calibration = calibrate(checkpoint, ids, QuantizationConfig(**widths))
        layers = share_statistics(drop_gate_norm(merge_norms(layer_graph(checkpoint.config))))
        unscheduled = lower(layers, checkpoint, calibration.formats, LOIHI2)
        return Lowered(checkpoint, ids, calibration.formats, layers, unscheduled, balance_delays(unscheduled))

    return run


@pytest.fixture(scope="session")
def lowered(make_checkpoint: Callable[..., Checkpoint], lower_checkpoint: Callable[..., Lowered]) -> Lowered:
    """A random network of two blocks, lowered with the default widths. Read it only."""
    return lower_checkpoint(make_checkpoint())

"""From text to Lava: killed and gone on with, a training gives the network that an uninterrupted one gives."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

import loihi_mmfree
from loihi_mmfree.train.training import Training

from .conftest import RECIPE

SEED = 14


def kill_at(step: int, command: list[str], log: Path) -> None:
    """Run a command until its log has a step, and kill it."""
    # As many threads as the tests have: sums must not be taken in another order.
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not log.is_file() or log.read_bytes().count(b"\n") < step:
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(find_spec("lava") is None, reason="Lava imports on Python 3.10 only")
def test_killed_and_resumed_it_runs_on_lava_like_one_that_never_stopped(
    uninterrupted: Training, text: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    checkpoint = tmp_path / "checkpoint"
    command = [sys.executable, "-m", "loihi_mmfree.cli.main", "train", "--text", str(text), "-o", str(checkpoint)]
    command += ["--recipe", str(tmp_path / "recipe.toml"), "--device", "cpu"]
    kill_at(random.Random(SEED).randrange(5, 25), command, checkpoint / "training" / "training_log.jsonl")

    resumed = loihi_mmfree.train(checkpoint, resume=True, device="cpu")
    assert resumed is not None
    assert resumed.records == uninterrupted.records
    nets = [
        loihi_mmfree.compile(each.path, tmp_path / name) for name, each in (("a", resumed), ("b", uninterrupted))
    ]
    runs = [
        loihi_mmfree.run(net, "It was a dark", 6, backend=backend, stop_at_end_of_text=False)
        for net, backend in zip(nets, ("sim", "engine"), strict=True)
    ]
    assert runs[0].new_ids == runs[1].new_ids
    assert runs[0].logits_sha256 == runs[1].logits_sha256
    assert nets[0].manifest["checkpoint_sha256"] == nets[1].manifest["checkpoint_sha256"]

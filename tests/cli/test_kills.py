"""Kills at random moments: what was there before is whole, or the new is, and nothing else stays.

KILL_COUNT says how many (default 12), half of them of `compile` and half of `run --activity`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loihi_mmfree.activity.file import load_activity
from loihi_mmfree.net.artifact import load_net
from loihi_mmfree.scratch import scratch_beside

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("KILL_COUNT", "12"))
SIGNALS = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
PROGRAM = [sys.executable, "-m", "loihi_mmfree.cli.main"]


class Victim:
    """A command that is killed at moments spread over the time that it takes, and its last moments most."""

    def __init__(self, command: list[str], temporary: Path, seed: int) -> None:
        self.command, self.temporary, self.random = command, temporary, random.Random(seed)
        temporary.mkdir()
        began = time.monotonic()
        self.start().communicate(timeout=600)
        self.seconds = time.monotonic() - began

    def start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "TMPDIR": str(self.temporary)}
        return subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)

    def kill(self, ending: signal.Signals) -> int:
        """Kill it, check how it ends, and return its exit status."""
        share = self.random.random() if self.random.random() < 0.5 else self.random.uniform(0.7, 1.1)
        process = self.start()
        try:
            process.wait(share * self.seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(ending)
        _, err = process.communicate(timeout=600)
        assert b"Traceback" not in err, err.decode()
        # Killed by the signal itself: while Python starts, or when the program is done and Python ends.
        assert process.returncode in (0, 128 + ending, -ending)
        return process.returncode


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sweep(net: Path) -> None:
    """What the next compilation does before it begins."""
    with scratch_beside(net):
        pass


def check_all(victim: Victim, check: Callable[[signal.Signals], None]) -> None:
    statuses = []
    for number in range(KILLS // 2):
        ending = SIGNALS[number % len(SIGNALS)]
        statuses.append(victim.kill(ending))
        check(ending)
    assert any(statuses), "none was killed in time"


def test_compile_is_killed_at_any_moment(tmp_path: Path, tiny_checkpoint: Path) -> None:
    net = tmp_path / "work" / "net"
    command = [*PROGRAM, "compile", str(tiny_checkpoint), "-o", str(net), "--force"]
    victim = Victim(command, tmp_path / "temporary", seed=1)
    before = contents(net)

    def check(ending: signal.Signals) -> None:
        if ending == signal.SIGKILL:
            load_net(net)
            sweep(net)
        assert contents(net) == before
        assert [path.name for path in net.parent.iterdir()] == ["net"]
        assert list((tmp_path / "temporary").iterdir()) == []

    check_all(victim, check)


def test_a_recording_is_killed_at_any_moment(tmp_path: Path, net_copy: Path) -> None:
    options = ["--backend", "engine", "--ids", ",".join(["1,2,3,4"] * 50), "-n", "20", "--ignore-eos"]
    victim = Victim([*PROGRAM, "run", str(net_copy), *options, "--activity"], tmp_path / "temporary", seed=2)
    before = contents(net_copy)
    graph = load_net(net_copy).graph

    def check(ending: signal.Signals) -> None:
        found = load_activity(net_copy, graph)
        assert found is not None
        left = contents(net_copy)
        if ending == signal.SIGKILL:  # The next recording sweeps what this one could not.
            left = {name: content for name, content in left.items() if not name.endswith(".partial")}
        assert left == before
        assert list((tmp_path / "temporary").iterdir()) == []

    check_all(victim, check)

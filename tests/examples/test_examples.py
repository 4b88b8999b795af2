"""The examples run, and do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def _run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_compile_and_run_ends_with_equal_hashes(tiny_checkpoint: Path) -> None:
    engine, lava = _run("compile_and_run.py", "--checkpoint", tiny_checkpoint, "--new-tokens", 2).splitlines()[-2:]
    assert engine.split()[:1] == ["engine"]
    assert lava.split()[:1] == ["Lava"]
    assert engine.split()[1] == lava.split()[1]


def test_mlgru_over_time_draws_a_picture(tiny_checkpoint: Path, tmp_path: Path) -> None:
    _run("mlgru_over_time.py", "--checkpoint", tiny_checkpoint, "--output", tmp_path / "mlgru.png")
    assert (tmp_path / "mlgru.png").read_bytes().startswith(b"\x89PNG")

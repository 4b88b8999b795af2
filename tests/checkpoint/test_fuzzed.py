"""Mutated checkpoints of every format compile, or end in one of the package's own errors, and leave nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "fuzzing.py"
ROOT = SCRIPT.parent.parent.parent
LARGEST_GROWTH_MB = 512


@pytest.mark.slow
def test_no_mutated_checkpoint_ends_in_a_traceback_a_signal_or_files_left(tmp_path: Path) -> None:
    count = int(os.environ.get("FUZZ_COUNT", "200"))
    arguments = [sys.executable, str(SCRIPT), str(tmp_path), os.environ.get("FUZZ_FIRST", "0"), str(count)]
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(arguments, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert sum(found["ends"].values()) == count
    assert found["ends"]["compiled"] > 0
    assert found["ends"]["CheckpointError"] > 0
    assert found["grown_mb"] < LARGEST_GROWTH_MB
    print(found)

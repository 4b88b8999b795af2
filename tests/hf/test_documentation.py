"""docs/huggingface.md works: its example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from loihi_mmfree.checkpoint import open_checkpoint

ROOT = Path(__file__).parents[2]


def test_the_example_runs_and_saves_a_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loihi_mmfree").symlink_to(ROOT / "loihi_mmfree")
    (example,) = re.findall(r"```python\n(.+?)```", (ROOT / "docs" / "huggingface.md").read_text(), re.DOTALL)
    exec(compile(example, "docs/huggingface.md", "exec"), {})
    assert "It was a dark night" in capsys.readouterr().out
    assert (
        open_checkpoint(tmp_path / "saved").config == open_checkpoint(ROOT / "loihi_mmfree/data/mmf-demo").config
    )

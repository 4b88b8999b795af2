"""What is checked before a commit, before a push and on the server is one list, that of .ci/run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_hooks_are_the_checks_of_ci() -> None:
    checks = re.findall(r"^uv run .+$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    hooks = re.findall(r"^ +entry: (.+)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert hooks == checks


def test_the_server_checks_every_python_that_is_supported() -> None:
    supported = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (matrix,) = re.findall(r"python: \[(.+)\]", workflow)
    assert re.findall(r'"(.+?)"', matrix) == supported
    assert "run: .ci/run" in workflow

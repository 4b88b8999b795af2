"""docs/extending.md works: every example on the page runs as it stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loihi_mmfree import run
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.engine.kernels.runtime.objects import cache_folder

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


def _sections() -> dict[str, str]:
    """Title -> the Python of a section."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    code = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return {title: "\n".join(code.findall(text)) for title, text in zip(parts[::2], parts[1::2], strict=True)}


COMMON, *EXTENSIONS = _sections()


def test_the_page_extends_what_people_extend() -> None:
    assert EXTENSIONS == ["An instruction", "A node", "A quantizer site", "A backend"]


@pytest.fixture
def kernels(tiny_net: Net, tmp_path: Path) -> Path:
    """The kernels as they are compiled, where those that an example adds are not kept for later runs."""
    run(tiny_net, [1], 1, backend="engine")
    shutil.copytree(cache_folder(), tmp_path / "kernels" / cache_folder().name)
    return tmp_path / "kernels"


@pytest.mark.parametrize("title", EXTENSIONS)
def test_an_example_runs_as_it_stands(
    title: str, tiny_net: Net, tiny_checkpoint: Path, tmp_path: Path, kernels: Path
) -> None:
    sections = _sections()
    (tmp_path / "net").symlink_to(tiny_net.path)
    (tmp_path / "checkpoint").symlink_to(tiny_checkpoint)
    (tmp_path / "example.py").write_text(f"{sections[COMMON]}\n{sections[title]}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**os.environ, "NUMBA_CACHE_DIR": str(kernels)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

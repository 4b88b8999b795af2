"""The documentation: every page that a message names is there, in a clone and in a wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from loihi_mmfree import manual

ROOT = Path(__file__).parent.parent
PAGES = {path.name for path in (ROOT / "docs").glob("*.md")}


def test_every_page_that_a_message_names_exists() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "loihi_mmfree").rglob("*.py"))
    named = set(re.findall(r"([a-z0-9-]+\.md)", sources))
    assert {"loihi2.md", "reports.md"} <= named
    assert named <= PAGES


def test_no_message_names_a_page_as_if_a_user_had_a_clone() -> None:
    texts = re.compile(r"^(?!\s*#).*[\"'(]docs/[a-z0-9-]+\.md", re.MULTILINE)
    for path in (ROOT / "loihi_mmfree").rglob("*.py"):
        without_docstrings = re.sub(r'"""(?s:.*?)"""', "", path.read_text())
        assert not texts.search(without_docstrings), path


def test_in_a_clone_the_pages_lie_beside_the_package() -> None:
    assert Path(manual.manual_page("loihi2.md")).samefile(ROOT / "docs" / "loihi2.md")


def test_pages_that_the_package_carries_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(manual, "_PACKAGE", tmp_path)
    assert manual.manual_folder() == tmp_path / "docs"


def test_a_wheel_carries_every_page(tmp_path: Path) -> None:
    if shutil.which("uv") is None:
        pytest.skip("uv, which builds the wheel, is not installed")
    command = ["uv", "build", "--wheel", "--out-dir", str(tmp_path), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(ZipFile(wheel).namelist())
    assert {f"loihi_mmfree/docs/{page}" for page in PAGES} <= names
    assert {"loihi_mmfree/api/__init__.py", "loihi_mmfree/data/mmf-demo/model.safetensors"} <= names
    assert not {name for name in names if not name.startswith(("loihi_mmfree/", "loihi_mmfree-"))}

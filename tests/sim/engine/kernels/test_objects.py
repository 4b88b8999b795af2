"""Machine code on disk: found again, made anew when damaged, done without where nothing can be written."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("llvmlite")
pytest.importorskip("numba")

from loihi_mmfree.errors import Notice
from loihi_mmfree.sim.engine.kernels.runtime import objects
from loihi_mmfree.sim.engine.kernels.runtime.native import NativeFunction, compile_function, load_take_part


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where objects are kept during a test."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path / "loihi-mmfree"


def refuse() -> bytes:
    raise AssertionError("made a second time")


def test_an_object_is_made_once(folder: Path) -> None:
    assert objects.kept_object("what", lambda: b"code") == b"code"
    assert objects.kept_object("what", refuse) == b"code"
    assert [path.suffix for path in folder.iterdir()] == [".o"]


def test_other_code_is_another_object(folder: Path) -> None:
    objects.kept_object("what", lambda: b"code")
    assert objects.kept_object("else", lambda: b"other") == b"other"


def test_another_processor_is_another_object(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.kept_object("what", lambda: b"code")
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    assert objects.kept_object("what", lambda: b"other") == b"other"
    assert objects.processor() == ("generic", "")


@pytest.mark.parametrize("damage", [b"", b"short", bytes(40)])
def test_a_damaged_object_is_made_anew(folder: Path, damage: bytes) -> None:
    objects.kept_object("what", lambda: b"code")
    (path,) = folder.iterdir()
    path.write_bytes(damage)
    assert objects.kept_object("what", lambda: b"code") == b"code"
    assert objects.kept_object("what", refuse) == b"code"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_an_object_of_another_user_is_not_executed(folder: Path) -> None:
    objects.kept_object("what", lambda: b"evil")
    (path,) = folder.iterdir()
    os.chown(path, 12345, 12345)
    assert objects.kept_object("what", lambda: b"code") == b"code"


def test_where_nothing_can_be_written_the_object_stays_in_memory_and_the_user_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(Notice, match=r"cannot be kept there \(Not a directory\).*NUMBA_CACHE_DIR"):
        assert objects.kept_object("what", lambda: b"code") == b"code"


def test_writers_at_the_same_time_leave_one_whole_object(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: objects.kept_object("what", lambda: b"code" * 10000), range(32)))
    assert set(found) == {b"code" * 10000}
    assert len(list(folder.iterdir())) == 1


def test_the_folder_is_the_users_own_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert Path.home() in objects.cache_folder().parents or "XDG_CACHE_HOME" in os.environ


def test_numba_is_not_imported_for_code_that_is_kept() -> None:
    load_take_part()
    script = (
        "import sys; from loihi_mmfree.sim.engine.kernels.runtime.native import load_take_part; load_take_part();"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_function_that_needs_numbas_library_is_refused() -> None:
    def grows(size):  # type: ignore[no-untyped-def]
        return len([0] * size) > 0

    with pytest.raises(RuntimeError, match=r"the compiled kernels need .*NRT"):
        compile_function(grows, 1)


def test_a_function_is_called_without_numba() -> None:
    def larger(first, second):  # type: ignore[no-untyped-def]
        return first > second

    function = NativeFunction(objects.MachineCode(compile_function(larger, 2)), 2)
    assert [function(2, 1), function(-(2**62), 2**62)] == [True, False]

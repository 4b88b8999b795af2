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


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o750, 0o705])
def test_nothing_is_loaded_from_a_folder_that_others_may_use(folder: Path, mode: int) -> None:
    objects.kept_object("what", lambda: b"evil")
    folder.chmod(mode)
    with pytest.warns(Notice, match="must belong to the user who runs this, with mode 700"):
        assert objects.kept_object("what", lambda: b"code") == b"code"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_nothing_is_loaded_from_a_folder_of_another_user(folder: Path) -> None:
    objects.kept_object("what", lambda: b"evil")
    os.chown(folder, 12345, 12345)
    with pytest.warns(Notice, match="must belong to the user"):
        assert objects.kept_object("what", lambda: b"code") == b"code"


def test_nothing_is_loaded_through_a_link(folder: Path) -> None:
    objects.kept_object("what", lambda: b"evil")
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")
    with pytest.warns(Notice, match="cannot be kept there"):
        assert objects.kept_object("what", lambda: b"code") == b"code"


def test_an_object_that_is_a_link_or_that_others_may_write_is_made_anew(folder: Path) -> None:
    objects.kept_object("what", lambda: b"evil")
    (path,) = folder.iterdir()
    path.chmod(0o666)
    assert objects.kept_object("what", lambda: b"code") == b"code"
    path.rename(folder / "elsewhere")
    path.symlink_to("elsewhere")
    assert objects.kept_object("what", lambda: b"other") == b"other"


def test_two_objects_exchanged_are_made_anew(folder: Path) -> None:
    objects.kept_object("first", lambda: b"first")
    (first,) = folder.iterdir()
    objects.kept_object("second", lambda: b"second")
    (second,) = set(folder.iterdir()) - {first}
    first.rename(folder / "spare")
    second.rename(first)
    (folder / "spare").rename(second)
    assert objects.kept_object("first", lambda: b"made anew") == b"made anew"
    assert objects.kept_object("second", lambda: b"made anew") == b"made anew"


def test_objects_used_least_lately_are_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MOST_OBJECTS", 3)
    for number in range(3):
        objects.kept_object(str(number), lambda: b"code")
        (newest,) = (path for path in folder.iterdir() if path.stat().st_mtime > 1000)
        os.utime(newest, (number, number))
    objects.kept_object("0", refuse)
    objects.kept_object("3", lambda: b"code")
    assert len(list(folder.iterdir())) == 3
    objects.kept_object("0", refuse)
    assert objects.kept_object("1", lambda: b"made anew") == b"made anew"


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


def test_code_is_compiled_where_numbas_compiler_is_switched_off() -> None:
    script = (
        "from loihi_mmfree.sim.engine.kernels.runtime import native, objects;"
        "code = objects.MachineCode(native.compile_function(lambda first, second: first > second, 2));"
        "assert native.NativeFunction(code, 2)(2, 1)"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "NUMBA_NUM_THREADS": ""}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


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

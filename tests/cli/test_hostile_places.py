"""Links, devices and names made to harm: nothing outside what was asked for is read or written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loihi_mmfree.cli.output import printable
from loihi_mmfree.net.artifact import Net

Call = Callable[..., Any]

USAGE, DAMAGED = 2, 3
RUN = ("--backend", "engine", "--ids", "1,2,3", "-n", 1)


def refused(called: Any, code: int, *words: str) -> None:
    assert called.code == code, called.err
    assert "Traceback" not in called.err
    for word in words:
        assert word in called.err


@pytest.mark.parametrize("kind", ["report", "activity.npz"])
def test_activity_is_not_written_out_of_the_network(call: Call, net_copy: Path, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    if kind == "report":
        outside.mkdir()
        (net_copy / "report").symlink_to(outside)
    else:
        outside.write_text("precious")
        (net_copy / "report").mkdir()
        (net_copy / "report" / kind).symlink_to(outside)
    refused(call("run", net_copy, *RUN, "--activity"), USAGE, "--activity", "is a link")
    assert (list(outside.iterdir()) == []) if outside.is_dir() else (outside.read_text() == "precious")


def test_a_report_of_fifos_does_not_hang(call: Call, net_copy: Path) -> None:
    (net_copy / "report").mkdir()
    os.mkfifo(net_copy / "report" / "activity.npz")
    refused(call("report", net_copy), DAMAGED, "cannot be read")


@pytest.mark.parametrize("path", ["/", ""])
@pytest.mark.parametrize("command", [("inspect", "--html"), ("report", "--html"), ("run", *RUN, "--logits-out")])
def test_an_output_that_is_a_folder_is_refused(
    call: Call, tiny_net: Net, command: tuple[Any, ...], path: str
) -> None:
    name, *options = command
    refused(call(name, tiny_net.path, *options, path), USAGE, options[-1], "is a folder; name a file")


def test_logits_go_into_a_device_and_leave_it_one(call: Call, tiny_net: Net) -> None:
    assert call("run", tiny_net.path, *RUN, "--logits-out", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "not a regular file"),
        ("mesh_rows = 30000\nmesh_columns = 30000", "a grid of 30000 x 30000"),
        (f"chips = {10**30}", "chips is 1000000000000000000000000000000"),
        ("chips = [[[[[[1]]]]]]", "must be a whole number"),
        ("x = " + "[" * 400, "not valid TOML"),
    ],
)
def test_a_system_that_is_none_is_refused(
    call: Call, tiny_checkpoint: Path, tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "chip.toml"
    if content is None:
        path = Path("/dev/zero")
    else:
        path.write_text(content)
    refused(call("compile", tiny_checkpoint, "-o", tmp_path / "net", "--chip", path), USAGE, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("quantization = 5", "quantization is 5; it must be a table"),
        (f"calibration_tokens = {10**21}", "calibration_tokens is 1000000000000000000000"),
        (f"golden_tokens = {10**21}", "golden_tokens is 1000000000000000000000"),
        ("a = " + "[" * 400 + "]" * 400, "a"),
    ],
)
def test_settings_that_are_none_are_refused(
    call: Call, tiny_checkpoint: Path, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "config.toml").write_text(content)
    called = call("compile", tiny_checkpoint, "-o", tmp_path / "net", "--config", tmp_path / "config.toml")
    refused(called, USAGE, words)


def test_a_checkpoint_of_another_model_is_not_compared(call: Call, tiny_net: Net, demo_checkpoint: Path) -> None:
    called = call("compare", tiny_net.path, "--ckpt", demo_checkpoint, "--no-lava")
    refused(called, USAGE, "not the model that", "vocab_size 2048")


@pytest.mark.parametrize("content", [b"", b"   \n", b"\xff\xfe"])
def test_a_text_to_calibrate_on_that_is_none(
    call: Call, tiny_checkpoint: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    refused(
        call("compile", tiny_checkpoint, "-o", tmp_path / "net", "--calib", tmp_path / "text.txt"), USAGE, "calib"
    )


@pytest.mark.parametrize("content", [b"", b"no array", bytes(200)])
def test_ids_to_calibrate_on_that_are_none(
    call: Call, tiny_checkpoint: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "ids.npy").write_bytes(content)
    called = call("compile", tiny_checkpoint, "-o", tmp_path / "net", "--calib", tmp_path / "ids.npy")
    refused(called, USAGE, "--calib", "cannot be read")


def test_a_network_whose_path_is_not_utf8_runs(call: Call, tiny_net: Net, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"n\xff")
    shutil.copytree(tiny_net.path, path)
    assert call("run", path, *RUN).code == 0
    shown = "".join(call("inspect", path).out.split())  # A table wraps a long path anywhere.
    assert "n\\udcff" in shown


def test_names_do_not_steer_the_terminal(call: Call, tmp_path: Path) -> None:
    called = call("inspect", tmp_path / "\x1b[2Jnet")
    refused(called, DAMAGED, "\\x1b[2Jnet")
    assert "\x1b" not in called.err


def test_text_is_shown_as_it_is_but_for_what_steers() -> None:
    assert printable("a\tb\né…\N{BLACK STAR}") == "a\tb\né…\N{BLACK STAR}"
    assert printable("\x1b]0;x\x07\r\u202e\x9b") == "\\x1b]0;x\\x07\\r\\u202e\\x9b"


@pytest.mark.parametrize("value", ["two", "0", "-1", "1.5"])
def test_a_number_of_threads_that_is_none_is_refused(
    call: Call, tiny_net: Net, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", value)
    refused(call("run", tiny_net.path, *RUN), USAGE, f"NUMBA_NUM_THREADS is '{value}'")


def test_an_empty_number_of_threads_is_none(call: Call, tiny_net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "")
    assert call("run", tiny_net.path, *RUN).code == 0

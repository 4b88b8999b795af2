"""run: options that do not go together, and what it leaves and prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loihi_mmfree.net.artifact import Net

Call = Callable[..., Any]


@pytest.mark.parametrize("counting", [["--activity"], ["--histograms"], ["--activity", "--histograms"]])
def test_what_a_chip_does_not_show_is_refused(call: Call, tiny_net: Net, counting: list[str]) -> None:
    called = call("run", tiny_net.path, "--backend", "loihi2", "--profile", "--ids", "1", *counting)
    assert called.code == 2
    assert f"{counting[0]} does not go with --profile" in called.err
    assert "--backend engine --activity" in called.err


@pytest.mark.parametrize(
    "prompt",
    [[], ["--ids", "99999"], ["--ids", "1", "--backend", "sim", "--granularity", "network"]],
    ids=["no prompt", "no such token", "messages cannot be seen"],
)
def test_a_recording_that_is_refused_leaves_no_folder(call: Call, net_copy: Path, prompt: list[str]) -> None:
    assert call("run", net_copy, "--backend", "engine", "--activity", *prompt).code == 2
    assert not (net_copy / "report").exists()


def test_where_no_activity_can_be_kept_is_said_before_the_run(call: Call, net_copy: Path) -> None:
    (net_copy / "report").write_text("")
    called = call("run", net_copy, "--backend", "engine", "--ids", "1", "-n", 0, "--activity")
    assert called.code == 2
    assert "--activity" in called.err
    assert "prompt token" not in called.err


def test_an_error_begins_a_line_of_its_own(call: Call, tiny_net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loihi_mmfree.sim.session.chip.extension_installed", lambda: False)
    called = call("run", tiny_net.path, "--backend", "loihi2", "--prompt", "Once upon")
    assert called.code == 7
    assert called.out == "Once upon\n"
    assert called.err.startswith("error: backend loihi2")


def test_one_token_is_not_several(call: Call, tiny_net: Net) -> None:
    err = call("run", tiny_net.path, "--backend", "engine", "--ids", "1", "-n", 1).err
    assert "1 prompt token at" in err
    assert "1 new one (" in err

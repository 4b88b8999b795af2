"""loihi-mmfree report, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loihi_mmfree.cli.app import app
from loihi_mmfree.errors import ArtifactError, UsageError
from loihi_mmfree.net.artifact import Net


def test_the_last_line_is_the_json_document(tiny_net: Net) -> None:
    result = CliRunner().invoke(app, ["report", str(tiny_net.path), "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout.strip().splitlines()[-1])
    assert document["generate"]["tokens_per_s"]["source"] == "modelled"


def test_the_terminal_says_what_is_modelled_and_that_nothing_was_recorded(tiny_net: Net) -> None:
    result = CliRunner().invoke(app, ["report", str(tiny_net.path)])
    assert "modelled" in result.stdout
    assert "published" in result.stdout
    assert "No activity is recorded" in result.stdout


def test_a_damaged_activity_is_an_error(net_copy: Path) -> None:
    (net_copy / "report").mkdir()
    (net_copy / "report" / "activity.npz").write_text("{")
    result = CliRunner().invoke(app, ["report", str(net_copy)])
    assert isinstance(result.exception, ArtifactError)


@pytest.mark.parametrize("folder", ["missing", "."])
def test_what_is_no_network_is_an_error(tmp_path: Path, folder: str) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path / folder)])
    assert isinstance(result.exception, ArtifactError)


@pytest.mark.parametrize("where", ["missing/page.html", "read-only/page.html"])
def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "read-only").mkdir()
    folder = tmp_path / "read-only"
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder)
    # A network that is not there would be noticed as soon as work began.
    result = CliRunner().invoke(app, ["report", str(tmp_path / "no-net"), "--html", str(tmp_path / where)])
    assert isinstance(result.exception, UsageError)
    assert "--html" in str(result.exception)


def test_a_page_is_written(tiny_net: Net, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tiny_net.path), "--html", str(tmp_path / "page.html")])
    assert result.exit_code == 0
    assert "modelled" in (tmp_path / "page.html").read_text()

"""The example plug-in, installed as a package of somebody else's, through the public entry points."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loihi_mmfree import api
from loihi_mmfree.cli.app import app
from loihi_mmfree.errors import BackendUnavailableError
from loihi_mmfree.files import parse_toml
from loihi_mmfree.ir.nodes import Role
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.session.chip import most_steps

EXAMPLE = Path(__file__).parents[2] / "examples" / "loihi2_plug_in"
RUN = ("--ids", "1,2,3", "-n", "4", "--ignore-eos", "--json")


@pytest.fixture(autouse=True)
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package in a folder of its own, as an installer leaves it: no network, and gone after the test."""
    project = parse_toml((EXAMPLE / "pyproject.toml").read_text(), "the example")["project"]
    shutil.copytree(EXAMPLE / "mmfree_plug_in", tmp_path / "site" / "mmfree_plug_in")
    info = tmp_path / "site" / f"mmfree_plug_in-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        line
        for group, entries in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path / "site")


def called(*arguments: str) -> Any:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def test_it_has_a_model_for_every_role_and_a_runner() -> None:
    found = api.plug_ins()
    assert all(each.problem is None for each in found)
    assert {each.name for each in found} == {*(role.value for role in Role), "engine"}
    assert {str(each.package) for each in found} == {"mmfree-plug-in"}


def test_a_dry_run_finds_everything(tiny_net: Net) -> None:
    found = api.dry_run(tiny_net)
    assert (found.ready, found.runner) == (True, "engine of mmfree-plug-in 0.1.0")
    assert {each.role: each.groups for each in found.roles}["MlGru"] == 4
    document = called("run", str(tiny_net.path), "--backend", "loihi2", "--dry-run", "--json")
    assert document["ready"] is True
    assert document["roles"] == [vars(each) for each in found.roles]


def test_run_gives_what_the_engine_gives(tiny_net: Net) -> None:
    found = called("run", str(tiny_net.path), "--backend", "loihi2", *RUN)
    expected = called("run", str(tiny_net.path), "--backend", "engine", *RUN)
    for name in ("new_ids", "text", "logits_sha256"):
        assert found[name] == expected[name]
    assert found["steps"] == most_steps(tiny_net.graph, 3, 4)


def test_profile_says_that_no_board_was_measured(tiny_net: Net) -> None:
    profile = called("run", str(tiny_net.path), "--backend", "loihi2", "--profile", *RUN)["profile"]
    assert profile["measurement_method"] == "clock of this machine"
    assert "no board" in profile["scope"]
    assert profile["latency_seconds"]["inputs"]["measurement_method"] == "clock of this machine"
    assert "no power was measured, so there is no energy" in profile["flags"]
    assert not {name for name in profile if "joules" in name or "watts" in name} - {"energy_by_rail_joules"}


def test_compare_holds_it_against_the_golden_messages(tiny_net: Net) -> None:
    document = called("compare", str(tiny_net.path), "--no-lava", "--backend", "loihi2", "--json")
    stages = {each["name"]: each for each in document["stages"]}
    for how in ("tokens together", "tokens one by one"):
        assert stages[f"loihi2, {how} = golden messages"] == {
            "name": f"loihi2, {how} = golden messages", "compared": 1, "differences": [],
        }  # fmt: skip


def test_a_model_that_refuses_a_group_is_named_with_it(tiny_net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    import mmfree_plug_in.models

    monkeypatch.setattr(mmfree_plug_in.models, "WIDEST_REGISTER", 39)
    refused = r"RmsNorm of mmfree-plug-in 0\.1\.0: refuses layers\.0\.attn_norm\.rms: a register of 40 bits"
    with pytest.raises(BackendUnavailableError, match=refused):
        api.run(tiny_net, [1], 1, backend="loihi2")

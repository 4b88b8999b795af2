"""The Python interface: complete, typed, with the command line's defaults, and light to import."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import loihi_mmfree
from loihi_mmfree import api
from loihi_mmfree.cli.app import app
from loihi_mmfree.net.artifact import Net

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "tests" / "data" / "user_script.py"
FUNCTIONS = (
    "compile", "narrow", "load", "run", "stream", "compare", "evaluate", "inspect", "report", "activity", "bench",
    "profile", "sweep", "train",
)  # fmt: skip


def test_every_public_name_is_there_and_documented() -> None:
    assert set(FUNCTIONS) <= set(loihi_mmfree.__all__)
    assert sorted(loihi_mmfree.__all__) == loihi_mmfree.__all__
    for name in loihi_mmfree.__all__:
        assert getattr(loihi_mmfree, name).__doc__, name


def test_functions_keep_their_names_from_rooms_called_alike() -> None:
    for room in ("report", "activity", "evaluate", "train"):
        function = getattr(loihi_mmfree, room)
        module = __import__(f"loihi_mmfree.{room}", fromlist=["_"])
        assert isinstance(module, ModuleType)
        assert getattr(loihi_mmfree, room) is function is getattr(api, room)


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, loihi_mmfree\n"
        "from loihi_mmfree import api, run, Net, RunResult, CompileConfig\n"
        "print([name for name in ('torch', 'brevitas', 'lava', 'numba', 'jinja2') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def options(command: str) -> dict[str, Any]:
    """The defaults of a command's options, by parameter."""
    click = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    return {parameter.name: parameter.default for parameter in click.params}


def test_run_has_the_defaults_of_the_command_line() -> None:
    found, known = options("run"), inspect.signature(loihi_mmfree.run).parameters
    same = ("backend", "new_tokens", "granularity", "runtime", "kernels", "logits_out", "activity", "histograms")
    assert {name: known[name].default for name in same} == {name: found[name] for name in same}
    sampler = loihi_mmfree.Sampler()
    drawn = ("temperature", "top_k", "top_p", "seed")
    assert {name: getattr(sampler, name) for name in drawn} == {name: found[name] for name in drawn}
    assert known["stop_at_end_of_text"].default is not found["ignore_eos"]


@pytest.mark.parametrize("function", [loihi_mmfree.stream, loihi_mmfree.profile])
def test_other_runs_have_the_defaults_of_run(function: Callable[..., object]) -> None:
    known = inspect.signature(loihi_mmfree.run).parameters
    for name, parameter in inspect.signature(function).parameters.items():
        assert parameter.default == known[name].default, name


def test_evaluate_has_the_defaults_of_the_command_line() -> None:
    found, known = options("evaluate"), inspect.signature(loihi_mmfree.evaluate).parameters
    assert found.keys() - known.keys() == {"html", "as_json"}
    assert {name: known[name].default for name in found.keys() & known.keys() - {"model"}} == {
        name: default for name, default in found.items() if name in known and name != "model"
    }


def test_train_has_the_defaults_of_the_command_line() -> None:
    found, known = options("train"), inspect.signature(loihi_mmfree.train).parameters
    assert found.keys() - known.keys() == {"shape", "as_json"}
    same = found.keys() & known.keys() - {"output"}
    assert {name: known[name].default for name in same} == {name: found[name] for name in same}


def test_bench_has_the_defaults_of_the_command_line() -> None:
    found, known = options("bench"), inspect.signature(loihi_mmfree.bench).parameters
    lists = {"backend": "backends", "granularity": "granularities", "prompt_tokens": "prompt_tokens"}
    for option, name in lists.items():
        assert found[option] == ",".join(map(str, known[name].default))
    for name in ("new_tokens", "repeats", "warm_up"):
        assert found[name] == known[name].default


def test_a_users_script_runs(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tiny_checkpoint), str(tmp_path / "net")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.split()[0].isdigit()]) == 4
    assert any(line.startswith("activity.npz") for line in lines)
    assert "the prompt is empty; give at least one token 2 True" in lines
    assert lines[-1].endswith("True")
    assert "calibrate" in done.stderr


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_a_users_script_passes_mypy_strict(tmp_path: Path) -> None:
    # What libraries of others export is looked at by nobody here: reading torch's types takes 20 seconds.
    settings = "[mypy]\nstrict = True\nfollow_imports = silent\nignore_missing_imports = True\n"
    settings += "[mypy-torch.*,brevitas.*,lava.*,numba.*,llvmlite.*]\nfollow_imports = skip\n"
    (tmp_path / "mypy.ini").write_text(settings)
    command = [sys.executable, "-m", "mypy", f"--config-file={tmp_path / 'mypy.ini'}"]
    command += ["--cache-dir", str(tmp_path), str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stdout


def test_types_are_shipped() -> None:
    assert (ROOT / "loihi_mmfree" / "py.typed").is_file()


def test_a_network_may_be_given_as_itself_or_as_its_folder(tiny_net: Net) -> None:
    runs = [
        loihi_mmfree.run(net, [1, 2], 2, backend="engine") for net in (tiny_net, tiny_net.path, str(tiny_net.path))
    ]
    assert len({run.logits_sha256 for run in runs}) == 1


def test_results_say_what_they_are(tiny_net: Net) -> None:
    run = loihi_mmfree.run(tiny_net, "The old man", 3, backend="engine")
    assert repr(run.text) in repr(run)
    assert len(repr(run)) < 300
    assert "tokens/s" in repr(loihi_mmfree.report(tiny_net))
    assert "51 time steps deep" in repr(loihi_mmfree.inspect(tiny_net))
    assert repr(loihi_mmfree.compare(tiny_net, lava=False)).startswith("<Comparison: equal>")


def test_report_and_inspection_are_pages_in_a_notebook(tiny_net: Net) -> None:
    for result in (loihi_mmfree.report(tiny_net), loihi_mmfree.inspect(tiny_net)):
        page = result._repr_html_()
        assert page.startswith("<iframe srcdoc=")
        assert "&lt;html" in page

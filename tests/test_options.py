"""Settings as Python calls them and as options of the command line: messages name what exists in both."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

import loihi_mmfree
from loihi_mmfree import api
from loihi_mmfree.cli.app import app
from loihi_mmfree.options import COMMANDS, on_command_line

PACKAGE = Path(loihi_mmfree.__file__).parent
OPTION = re.compile(r"(?<![\w-])--(?:[a-z][a-z-]*|$)")
CODE = re.compile("`[^`\n]+`")
OF_OTHER_PROGRAMS = {"checkpoint/hub.py": "hf download", "rtl/simulator/toolchain.py": "verilator_bin"}
CONFIGS = api.CompileConfig, loihi_mmfree.QuantizationConfig
SETTINGS = {
    *(name for each in (*COMMANDS, "narrow") for name in inspect.signature(getattr(api, each)).parameters),
    *(field.name for config in CONFIGS for field in dataclasses.fields(config)),
}


@pytest.mark.parametrize(
    ("python", "shown"),
    [
        ("give `force=True` to replace it", "give --force to replace it"),
        ("`weight_bits=2, straddle=True`", "--weight-bits 2 --straddle"),
        ("use `kernels='numpy'`", "use --kernels numpy"),
        ("With `activation_bits=9` they can", "With --act-bits 9 they can"),
        ("(`chip=FILE`)", "(--chip FILE)"),
        ("`prompt=[1, 2, 3]`", "--ids 1,2,3"),
        ("`stop_at_end_of_text=False`", "--ignore-eos"),
        ("`dump_ir` /a/b: cannot write there", "--dump-ir /a/b: cannot write there"),
        (
            "`save_activity(net, run(net, prompt, backend='engine', activity=True).activity)`",
            '`loihi-mmfree run NET --prompt "..." --backend engine --activity`',
        ),
        # What is none of ours stays as it is.
        ("`hf download a/b --local-dir b`, then", "`hf download a/b --local-dir b`, then"),
        ("found `a=b=c` and `word` and `f(x)`", "found `a=b=c` and `word` and `f(x)`"),
    ],
)
def test_settings_and_calls_are_shown_as_options_and_commands(python: str, shown: str) -> None:
    assert on_command_line(python) == shown


def _texts(path: Path) -> Iterator[str]:
    """Every text of a file but its docstrings, with an x for what is put in when it is used."""
    tree = ast.parse(path.read_text())
    apart = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            apart |= {id(part) for part in node.values}
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "0" for each in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart:
            yield node.value


def _files() -> Iterator[tuple[str, list[str]]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("cli/") and name != "options.py":
            yield name, list(_texts(path))


def test_no_text_of_the_python_interface_names_an_option() -> None:
    found = [
        f"{name}: {text}"
        for name, texts in _files()
        for text in texts
        # A page may name a whole command: whoever reads it has a shell.
        if OPTION.search(CODE.sub("", text) if name.startswith("report/pages/") else text)
        and OF_OTHER_PROGRAMS.get(name, "\0") not in " ".join(texts)
    ]
    assert not found, "\n".join(found)


def test_settings_that_messages_name_exist_in_python_and_on_the_command_line() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {
        name
        for each in commands.values()
        for param in each.params
        for name in (*param.opts, *param.secondary_opts)
    }
    named = {
        code
        for _, texts in _files()
        for text in texts
        for code in CODE.findall(text)
        if on_command_line(code) != code
    }
    assert {"`force=True`", "`weight_bits=2`", "`activation_bits=0`"} <= named
    for code in named:
        assert set(OPTION.findall(on_command_line(code))) <= options, code
        assert set(re.findall(r"(\w+)=", code)) <= SETTINGS, code

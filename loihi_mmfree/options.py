"""What Python calls a setting, as the option of the command line.

Messages name settings and calls as Python has them, between backticks: `weight_bits=2`, `run(net, prompt,
activity=True)`. The command line shows them as its own, and so do pages, whose readers have a shell.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

COMMANDS = (
    "compile",
    "run",
    "compare",
    "evaluate",
    "inspect",
    "vectors",
    "export",
    "report",
    "sweep",
    "emit",
    "bench",
    "train",
)
"""Functions of the Python interface that are commands as well."""
OTHER_NAMES = {"activation_bits": "--act-bits", "base": "--from", "checkpoint": "--ckpt"}
"""Options that are not called as their setting."""
OTHER_FORMS = {
    "stop_at_end_of_text=False": "--ignore-eos",
    "prompt=[1, 2, 3]": "--ids 1,2,3",
    "recipe=Recipe.preset('tiny')": "--shape tiny",
}
"""Settings with a value that is an option of its own."""
NAMES_ALONE = {
    "base": "--from",
    "budget_text": "--budget-text",
    "calibration": "--calib",
    "dump_ir": "--dump-ir",
    "checkpoint": "--ckpt",
    "quantize": "--quantize",
    "results": "--results",
    "stride": "--stride",
    "output": "--output",
    "task": "--task",
    "text": "--text",
    "tokenizer": "--tokenizer",
    "window": "--window",
}
"""Settings that are told under their name alone, such as files that cannot be read or written."""
ARGUMENTS = {"net": "NET", "checkpoint": "CKPT", "prompt": '--prompt "..."', "output": "-o NET"}
"""What the command line has for an argument by position."""
_CODE = re.compile("`([^`\n]+)`")


def on_command_line(text: str) -> str:
    """Return a message with its settings and calls as those of the command line; any other text stays as it is."""
    return _CODE.sub(lambda found: _option_text(found[1]) or found[0], text)


def _option_text(code: str) -> str | None:
    """A setting as options, a call as a command; None if it is neither."""
    if code in NAMES_ALONE:
        return NAMES_ALONE[code]
    try:
        body = ast.parse(code, mode="eval").body
    except SyntaxError:
        body = None
    if body is None:
        return _settings(code)
    calls = [each for each in ast.walk(body) if isinstance(each, ast.Call) and _called(each) in COMMANDS]
    if not calls:
        return None
    call = calls[-1]  # the innermost: what keeps or shows its result is part of the command
    given = [ARGUMENTS[each.id] for each in call.args if isinstance(each, ast.Name)]
    return f"`{' '.join(['loihi-mmfree', _called(call), *given, *_options(call)])}`"


def _settings(code: str) -> str | None:
    """One setting or several, separated by commas."""
    try:
        call = ast.parse(f"_({code})", mode="eval").body
    except SyntaxError:
        return None
    plain = isinstance(call, ast.Call) and call.keywords and not call.args
    return " ".join(_options(call)) if isinstance(call, ast.Call) and plain else None


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _options(call: ast.Call) -> Iterator[str]:
    for each in call.keywords:
        written = f"{each.arg}={ast.unparse(each.value)}"
        name = OTHER_NAMES.get(str(each.arg), f"--{str(each.arg).replace('_', '-')}")
        if written in OTHER_FORMS:
            yield OTHER_FORMS[written]
        elif isinstance(each.value, ast.Constant):
            yield name if each.value.value is True else f"{name} {each.value.value!s}"
        else:
            yield f"{name} {ast.unparse(each.value)}"

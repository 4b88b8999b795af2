"""A way to call the program as a user does, within this process."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from loihi_mmfree.cli.main import main
from loihi_mmfree.interrupts import ENDING


@dataclass(frozen=True)
class Called:
    """What a call of the program left."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document on the last line of stdout."""
        found = json.loads(self.out.strip().splitlines()[-1])
        assert isinstance(found, dict)
        return found


Call = Callable[..., Called]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """A function from arguments to exit code, stdout and stderr."""

    def run(*arguments: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["loihi-mmfree", *map(str, arguments)])
        capsys.readouterr()
        handlers = {each: signal.getsignal(each) for each in ENDING}
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)
        captured = capsys.readouterr()
        return Called(code, captured.out, captured.err)

    return run

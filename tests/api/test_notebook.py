"""In a notebook: progress shows, interrupting works, and a second run works. In a real kernel.

Slow, and apart from the quick suite.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest

from loihi_mmfree.net.artifact import Net

pytest.importorskip("ipykernel", reason="ipykernel is not installed")
manager = pytest.importorskip("jupyter_client.manager", reason="jupyter_client is not installed")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
SECONDS = 240.0


class Notebook:
    """A kernel and what its cells print."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        self.manager, self.client = manager.start_new_kernel(kernel_name="python3", env=environment)

    def run(self, code: str, interrupt_after: str = "") -> dict[str, str]:
        """Run a cell; as soon as it has printed the given words, interrupt it. By channel, what it printed."""
        cell, printed = self.client.execute(code), {"stdout": "", "stderr": "", "error": "", "html": ""}
        deadline = time.monotonic() + SECONDS
        answered = False
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except Empty:
                # An interrupt may cost what the kernel was about to publish, "idle" included; never its answer.
                if answered:
                    return printed
                answered = self._answered(cell, printed)
                continue
            content: dict[str, Any] = message["content"]
            if message["parent_header"].get("msg_id") != cell:
                continue
            if message["msg_type"] == "stream":
                printed[content["name"]] += content["text"]
            elif message["msg_type"] == "execute_result":
                printed["html"] = content["data"].get("text/html", "")
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                answered = answered or self._answered(cell, printed, seconds=deadline - time.monotonic())
                break
            if interrupt_after and interrupt_after in printed["stdout"]:
                interrupt_after = ""
                self.manager.interrupt_kernel()
        assert answered, f"the cell did not end: {printed}"
        return printed

    def _answered(self, cell: str, printed: dict[str, str], seconds: float = 0.0) -> bool:
        """Whether the answer to a cell arrives in time; the error that it names is noted."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = self.client.get_shell_msg(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                return False
            if answer["parent_header"].get("msg_id") == cell:
                printed["error"] = answer["content"].get("ename", "")
                return True

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def notebook() -> Iterator[Notebook]:
    started = Notebook()
    started.run("import loihi_mmfree")
    yield started
    started.close()


def test_compiling_shows_its_progress(notebook: Notebook, tiny_checkpoint: Path, tmp_path: Path) -> None:
    printed = notebook.run(f"loihi_mmfree.compile({str(tiny_checkpoint)!r}, {str(tmp_path / 'net')!r}); None")
    assert not printed["error"]
    assert "calibrate" in printed["stderr"]


@pytest.mark.parametrize("backend", ["engine", "sim"])
def test_a_run_can_be_interrupted_and_another_gives_the_right_logits(
    notebook: Notebook, tiny_net: Net, backend: str
) -> None:
    code = f"run = loihi_mmfree.run({str(tiny_net.path)!r}, [1, 2, 3], {{}}, backend={backend!r}, "
    code += "stop_at_end_of_text=False{})"
    before = notebook.run(f"{code.format(4, '')}; print(run.logits_sha256)")
    assert not before["error"]
    endless = code.format(10**6, ", on_token=lambda token: print('token', token.id)")
    assert notebook.run(endless, interrupt_after="token")["error"] == "KeyboardInterrupt"
    assert notebook.run(f"{code.format(4, '')}; print(run.logits_sha256)") == before


def test_results_show_as_pages(notebook: Notebook, tiny_net: Net) -> None:
    assert "<iframe" in notebook.run(f"loihi_mmfree.inspect({str(tiny_net.path)!r})")["html"]

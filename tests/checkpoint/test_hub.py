"""Models by their id on the Hugging Face hub, against a stand-in server on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import pytest
from safetensors.torch import save

from loihi_mmfree.checkpoint.hub import is_hub_id

COMMIT = "0123456789abcdef0123456789abcdef01234567"
needs_library = pytest.mark.skipif(find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed")


@dataclass
class Hub:
    """A hub with one model, and what was asked of it."""

    files: dict[str, bytes]
    asked: list[str] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def hub(values, state) -> Iterator[Hub]:
    """A server that speaks as much of the hub's protocol as a download takes."""
    content = {
        "config.json": json.dumps(values).encode(),
        "model.safetensors": save(state),
        "modeling_hgrn_bit.py": b"raise SystemExit('run')",
        "pytorch_model.bin": b"never asked for",
        "tokenizer.json": b"{}",
        "README.md": b"never asked for",
    }
    model = Hub(content)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def answer(self, whole: bool) -> None:
            name = self.path.split(f"/resolve/{COMMIT}/")[-1]
            if self.path.startswith("/api/models/owner/name/revision/"):
                siblings = [{"rfilename": each} for each in model.files]
                body = json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": siblings}).encode()
            elif self.path.startswith(f"/api/models/owner/name/tree/{COMMIT}"):
                # Versions from 1.0 on list a repository so.
                sizes = {each: len(content) for each, content in model.files.items()}
                listed = [
                    {"type": "file", "path": each, "size": size, "oid": f"{size:040d}"}
                    for each, size in sizes.items()
                ]
                body = json.dumps(listed).encode()
            elif name in model.files:
                body = model.files[name]
                model.asked.append(name)
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{len(body):040d}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if whole:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    model.address = f"http://127.0.0.1:{server.server_port}"
    yield model
    server.shutdown()
    server.server_close()


def opened(where: Path, endpoint: str, model: str = "owner/name", **more: str) -> subprocess.CompletedProcess[str]:
    """Open a model by its id in a process of its own: the library reads its settings when it is imported."""
    script = (
        "import sys\n"
        "from loihi_mmfree.checkpoint import open_checkpoint\n"
        "from loihi_mmfree.errors import CheckpointError\n"
        "try:\n"
        "    checkpoint = open_checkpoint(sys.argv[1])\n"
        "except CheckpointError as error:\n"
        "    sys.exit(f'CheckpointError: {error}')\n"
        "print(checkpoint.config.vocab_size, len(checkpoint.names()), *checkpoint.notices)\n"
    )
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(where / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [sys.executable, "-c", script, model],
        cwd=where,
        env=os.environ | settings | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | more,
        capture_output=True,
        text=True,
        timeout=120,
    )


@needs_library
def test_a_model_is_fetched_without_code_and_pickles(hub, tmp_path):
    done = opened(tmp_path, hub.address)
    assert done.stdout == f"11 35 owner/name: fetched from the hub, version {COMMIT}\n", done.stderr
    assert set(hub.asked) == {"config.json", "model.safetensors", "tokenizer.json"}


@needs_library
def test_what_was_fetched_once_is_opened_without_a_network(hub, tmp_path):
    assert opened(tmp_path, hub.address).returncode == 0
    asked = len(hub.asked)
    done = opened(tmp_path, hub.address, HF_HUB_OFFLINE="1")
    assert done.stdout.startswith("11 35"), done.stderr
    assert len(hub.asked) == asked


@needs_library
@pytest.mark.parametrize("model", ["owner/name", "owner/other"])
def test_what_cannot_be_fetched_names_the_command_that_fetches_it(hub, tmp_path, model):
    done = opened(tmp_path, "http://127.0.0.1:9" if model == "owner/name" else hub.address, model)
    assert done.returncode == 1
    assert f"CheckpointError: {model}: no such file or folder here, and not fetched" in done.stderr
    assert f"`hf download {model} --include " in done.stderr
    assert ".py" not in done.stderr


def test_without_the_library_the_message_names_it_and_the_command(tmp_path):
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError('not installed')")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = opened(tmp_path, "http://127.0.0.1:9", PYTHONPATH=path)
    assert "it takes the package huggingface_hub" in done.stderr
    assert "`hf download owner/name --include " in done.stderr


@pytest.mark.parametrize("text", ["ridger/MMfreeLM-370M", "a/b", "owner/na.me_1"])
def test_ids_of_the_hub(text):
    assert is_hub_id(text)


@pytest.mark.parametrize(
    "text",
    ["name", "/owner/name", "a/b/c", "owner/", "../name", "owner/..", "./name", "owner/na me", "tests/name"],
)
def test_paths_that_are_no_ids_of_the_hub(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    assert not is_hub_id(text)

"""run: options that do not go together, and what it leaves and prints."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.net.artifact import Net
from loihi_mmfree.text import Tokenizer

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


def test_a_prompt_file_may_have_a_byte_order_mark_and_lines_of_windows(
    call: Call, tiny_net: Net, tmp_path: Path
) -> None:
    (tmp_path / "plain.txt").write_bytes(b"The old\nman")
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbfThe old\r\nman")
    common = ("run", tiny_net.path, "--backend", "engine", "-n", 1, "--json", "--prompt-file")
    ids = [call(*common, tmp_path / name).document["prompt_ids"] for name in ("plain.txt", "windows.txt")]
    assert ids[0] == ids[1]


def test_what_is_shown_and_what_the_document_says_is_what_the_tokenizer_decodes(call: Call, tiny_net: Net) -> None:
    common = ("run", tiny_net.path, "--backend", "engine", "-n", 40, "--ignore-eos", "--prompt", "The old man")
    sampled = ("--temperature", 3, "--seed", 5)
    document = call(*common, *sampled, "--json").document
    assert tiny_net.tokenizer_path is not None
    tokenizer = Tokenizer(tiny_net.tokenizer_path)
    whole = tokenizer.decode((*document["prompt_ids"], *document["new_ids"]))
    assert f"The old man{document['text']}" == whole
    assert call(*common, *sampled).out == f"{whole}\n"


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&-", "1>&- 2>&- 0<&-"])
def test_closed_streams_keep_no_result_from_its_file(tiny_net: Net, tmp_path: Path, closed: str) -> None:
    out = tmp_path / "logits.npz"
    program = f"{sys.executable} -c 'from loihi_mmfree.cli.main import main; main()'"
    run = f"run {tiny_net.path} --backend engine --ids 1,2,3 -n 2 --ignore-eos --logits-out {out} {closed}"
    done = subprocess.run(f"{program} {run}", shell=True, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    with np.load(out) as written:
        assert written["logits"].shape == (4, 512)


def test_what_stdout_cannot_encode_is_shown_as_an_escape(tiny_net: Net) -> None:
    command = [sys.executable, "-c", "from loihi_mmfree.cli.main import main; main()", "run", str(tiny_net.path)]
    command += ["--backend", "engine", "--prompt", "€", "-n", "0"]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stdout) == (0, "\\u20ac\n")

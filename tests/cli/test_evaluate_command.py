"""loihi-mmfree evaluate: what it prints and writes, in one process and in several, and what it refuses."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import loihi_mmfree
from loihi_mmfree.model.perplexity import perplexity
from loihi_mmfree.net.artifact import load_net
from loihi_mmfree.sim.engine.specification import Engine
from loihi_mmfree.text import Tokenizer

PROSE = "It was the best of times, it was the <unk> of times. " * 5


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluate") / "text.txt"
    path.write_text(PROSE)
    return path


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluate") / "task.jsonl"
    items = [
        {"query": "Question: What is cold?", "choices": ["fire", "ice and snow"], "gold": 1},
        {"query": "Question: What is hot?", "choices": ["fire", "ice and snow"], "gold": 0},
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in items))
    return path


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch):
    """Whatever the machine has; and as one process."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_the_perplexity_of_a_network_is_that_of_its_integers(call, tiny_net, text):
    found = call("evaluate", tiny_net.path, "--text", text, "--window", 32, "--json")
    assert found.code == 0, found.err
    net = load_net(tiny_net.path)
    ids = Tokenizer(net.tokenizer_path).encode(PROSE.replace("<unk>", "unk"), special_tokens=False)
    engine = Engine(net.graph)

    def logits(piece):
        engine.reset()
        return engine.process(piece) * engine.logit_scale

    document = found.document
    assert document["perplexity"] == pytest.approx(perplexity(logits, ids, 32, None), rel=1e-14)
    windows = len(ids) // 32
    assert (document["windows"], document["tokens"]) == (windows, 31 * windows)
    assert (document["overflows"], document["reference"], document["paired"]) == (0, None, None)
    protocol = document["protocol"]
    assert (protocol["window"], protocol["stride"], protocol["tokens_left_out"]) == (
        32,
        32,
        len(ids) - 32 * windows,
    )
    assert "BOS: none is put in front" in found.out.replace("\n", " ")
    assert f"{document['perplexity']:.3f}" in found.out


def test_both_are_compared_on_the_same_tokens(call, tiny_net, tiny_checkpoint, text):
    options = ("--text", text, "--window", 16, "--stride", 8, "--limit", 4, "--json")
    both = call("evaluate", tiny_net.path, "--ckpt", tiny_checkpoint, *options).document
    integers = call("evaluate", tiny_net.path, *options).document
    real = call("evaluate", tiny_checkpoint, *options).document
    assert both["tokens"] == real["tokens"] == 15 + 3 * 8
    assert (both["perplexity"], both["saturations"]) == (integers["perplexity"], integers["saturations"])
    assert both["reference"]["perplexity"] == real["perplexity"]
    assert (real["model"]["kind"], both["model"]["kind"]) == ("float", "integers")
    paired = both["paired"]
    assert paired["relative"] == pytest.approx(both["perplexity"] / real["perplexity"] - 1, abs=1e-12)
    assert paired["loss_difference"] == pytest.approx(both["loss"] - real["loss"], abs=1e-12)
    low, high = paired["relative_interval"]
    assert low <= paired["relative"] <= high
    assert 0 <= paired["kl_divergence"] < 0.05
    assert 0.8 < paired["top1_agreement"] <= 1
    assert (
        paired["loss_difference_magnitude"] <= paired["loss_difference_rms"] <= paired["loss_difference_largest"]
    )


def test_a_task_gives_its_accuracy(call, tiny_net, tiny_checkpoint, task):
    found = call("evaluate", tiny_net.path, "--ckpt", tiny_checkpoint, "--task", task, "--json")
    document = found.document
    assert document["items"] == 2
    assert document["accuracy"] in (0, 0.5, 1)
    assert document["accuracy_norm"] in (0, 0.5, 1)
    change = document["paired"]["accuracy"]
    assert change["difference"] == document["accuracy"] - document["reference"]["accuracy"]
    assert 0 < change["mcnemar_p"] <= 1
    assert "McNemar" in found.out


def test_the_page_shows_the_numbers_and_needs_nothing_else(call, tiny_net, tiny_checkpoint, text, tmp_path):
    page = tmp_path / "page.html"
    options = ("--text", text, "--limit", 2, "--window", 16, "--html", page, "--json")
    found = call("evaluate", tiny_net.path, "--ckpt", tiny_checkpoint, *options)
    content = page.read_text()
    assert f"{found.document['perplexity']:.3f}" in content
    assert "KL divergence" in content
    assert "<script" not in content
    assert "http" not in content.replace("http-equiv", "")


def test_python_gives_what_the_command_gives(call, tiny_net, text):
    found = loihi_mmfree.evaluate(tiny_net, text=text, window=32, limit=2)
    document = call("evaluate", tiny_net.path, "--text", text, "--window", 32, "--limit", 2, "--json").document
    assert found.to_dict()["perplexity"] == document["perplexity"]
    assert "perplexity" in repr(found)
    assert "<iframe" in found._repr_html_()


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_give_the_numbers_of_one(tiny_net, tiny_checkpoint, text, tmp_path, processes):
    results = tmp_path / "results.jsonl"
    command = [
        sys.executable, "-m", "loihi_mmfree.cli.main", "evaluate", str(tiny_net.path),
        "--ckpt", str(tiny_checkpoint), "--text", str(text), "--window", "16",
        "--results", str(results), "--batch", str(processes), "--json",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen(
            command,
            env={**environment, "RANK": str(rank), "WORLD_SIZE": str(processes)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    ended = [each.communicate(timeout=300) for each in running]
    assert [each.returncode for each in running] == [0] * processes, ended
    shown = [json.loads(out.splitlines()[-1]) for out, _ in ended if out]
    assert len(shown) == 1
    expected = loihi_mmfree.evaluate(tiny_net, text=text, checkpoint=tiny_checkpoint, window=16)
    same = {
        key: value for key, value in expected.to_dict().items() if key not in ("seconds", "tokens_per_s", "model")
    }
    assert {key: shown[0][key] for key in same} == json.loads(json.dumps(same))
    assert os.listdir(tmp_path) == ["results.jsonl"]


def test_an_evaluation_that_was_killed_goes_on(call, demo_net, tmp_path):
    long_text, results = tmp_path / "text.txt", tmp_path / "results.jsonl"
    long_text.write_text(PROSE * 60)
    options = ("evaluate", demo_net.path, "--text", long_text, "--window", 64, "--json")
    with subprocess.Popen(
        [sys.executable, "-m", "loihi_mmfree.cli.main", *map(str, options), "--results", results, "--batch", "1"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        deadline = time.monotonic() + 120
        while not (results.exists() and results.read_bytes().count(b"\n") > 3):
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.01)
        running.kill()
    before = results.read_bytes()
    expected, found = call(*options).document, call(*options, "--results", results).document
    assert results.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert 3 <= before.count(b"\n") - 1 < expected["windows"]
    for times in ("seconds", "tokens_per_s"):
        del expected[times], found[times]
    assert found == expected


def test_a_text_shorter_than_a_window_is_read_whole_with_a_notice(call, tiny_net, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("It was late.")
    found = call("evaluate", tiny_net.path, "--text", path, "--json")
    assert "less than a window of 512; all are one window" in found.err
    assert found.document["windows"] == 1
    assert math.isfinite(found.document["perplexity"])


def copy_without(net_copy: Path, name: str) -> Path:
    manifest = json.loads((net_copy / "manifest.json").read_text())
    del manifest["files"][name]
    (net_copy / "manifest.json").write_text(json.dumps(manifest))
    (net_copy / name).unlink()
    return net_copy


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give either --text FILE"),
        (("--text", "{text}", "--task", "{task}"), "give either --text FILE"),
        (("--task", "{task}", "--stride", "4"), "which --window and --stride cut"),
        (("--text", "none.txt"), "--text none.txt: cannot be read"),
        (("--text", "{text}", "--window", "1"), "--window 1: at least 2"),
        (("--text", "{text}", "--limit", "0"), "--limit 0: at least 1"),
        (("--text", "{text}", "--batch", "0"), "--batch 0: at least 1"),
        (("--text", "{text}", "--backend", "abacus"), "backend: unknown 'abacus'"),
        (("--text", "{text}", "--backend", "engine", "--device", "cuda"), "device 'cuda' is of the torch backend"),
        (("--text", "{text}", "--results", "none/r.jsonl"), "no such folder"),
        (("--text", "{text}", "--html", "none/r.html"), "no such folder"),
    ],
)
def test_options_that_do_not_go_together_are_refused(call, tiny_net, text, task, options, said):
    given = [each.format(text=text, task=task) for each in options]
    found = call("evaluate", tiny_net.path, *given)
    assert (found.code, said in found.err) == (2, True), found.err


def test_a_checkpoint_that_is_not_the_networks_is_refused(call, tiny_net, demo_checkpoint, text):
    found = call("evaluate", tiny_net.path, "--ckpt", demo_checkpoint, "--text", text)
    assert found.code == 2
    assert f"not what {tiny_net.path} was compiled from" in found.err


@pytest.mark.parametrize("options", [("--backend", "engine"), ("--ckpt", "x")])
def test_what_is_for_networks_is_refused_for_a_checkpoint(call, tiny_checkpoint, text, options):
    found = call("evaluate", tiny_checkpoint, "--text", text, *options)
    assert found.code == 2
    assert "is for a compiled network" in found.err


def test_no_gpu_where_one_is_asked_for_is_said(call, tiny_net, text):
    import torch

    if torch.cuda.device_count():
        pytest.skip("there is a GPU")
    found = call("evaluate", tiny_net.path, "--text", text, "--device", "cuda")
    assert found.code == 7
    assert "has no device 'cuda' here" in found.err


def test_a_network_without_a_tokenizer_reads_no_text(call, net_copy, text):
    found = call("evaluate", copy_without(net_copy, "tokenizer.json"), "--text", text)
    assert found.code == 2
    assert "has no tokenizer.json or tokenizer.model" in found.err

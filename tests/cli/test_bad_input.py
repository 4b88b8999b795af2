"""Bad input: one clear message, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from loihi_mmfree import defaults
from loihi_mmfree.net.artifact import Net, file_sha256, load_net, tensor_sha256

Call = Callable[..., Any]

USAGE, CHECKPOINT, UNSUPPORTED, DOES_NOT_FIT, MISMATCH, UNAVAILABLE = 2, 3, 4, 5, 6, 7


def _refused(called: Any, code: int, *words: str) -> None:
    """One message on stderr, the exit code, and no traceback."""
    assert called.code == code, called.err
    assert "Traceback" not in called.err
    for word in words:
        assert word in called.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["--prompt"]),
        (("--ids", ""), ["empty"]),
        (("--prompt", ""), ["empty"]),
        (("--ids", "1,512"), ["512", "0..511"]),
        (("--ids", "1,-2"), ["-2"]),
        (("--ids", "one,two"), ["whole numbers"]),
        (("--ids", "1", "--prompt", "x"), ["one of"]),
        (("--prompt-file", "nowhere.txt"), ["nowhere.txt"]),
        (("--ids", "1", "-n", "-3"), ["-3"]),
        (("--ids", "1", "--temperature", "-1"), ["temperature"]),
        (("--ids", "1", "--top-k", "5"), ["temperature"]),
        (("--ids", "1", "--temperature", "1", "--top-p", "1.5"), ["top-p"]),
        (("--ids", "1", "--granularity", "atom"), ["atom", "operator"]),
        (("--ids", "1", "--backend", "gpu"), ["gpu", "engine"]),
        (("--ids", "1", "--runtime", "cloud"), ["cloud", "inprocess"]),
        (("--ids", "1", "--kernels", "opencl"), ["opencl", "numpy"]),
        (("--ids", "99999999999999999999"), ["99999999999999999999", "0..511"]),
        (("--prompt", "ab\udcff"), ["--prompt", "not valid UTF-8"]),
        (("--ids", "1", "--temperature", "1e-310"), ["temperature", "1e-310", "at least"]),
        (("--ids", "1", "--logits-out", "nowhere/f.npz"), ["nowhere"]),
        (("--ids", "1", "--logits-out", ""), ["--logits-out", "is a folder"]),
        (("--ids", "1", "--frobnicate"), ["frobnicate"]),
    ],
)
def test_a_wrong_request_to_run(call: Call, tiny_net: Net, arguments: tuple[str, ...], words: list[str]) -> None:
    backend = () if "--backend" in arguments or "--runtime" in arguments or "--granularity" in arguments else (
        "--backend", "engine",
    )  # fmt: skip
    _refused(call("run", tiny_net.path, *backend, *arguments), USAGE, *words)


def test_a_prompt_file_that_is_not_utf_8(call: Call, tiny_net: Net, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_bytes("é".encode("latin-1"))
    called = call("run", tiny_net.path, "--backend", "engine", "--prompt-file", tmp_path / "prompt.txt")
    _refused(called, USAGE, "--prompt-file", "prompt.txt", "utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-n", "1" + "0" * 20), ["new tokens", "100000000000000000000", "1 to"]),
        (("-n", "0"), ["new tokens", "1 to"]),
        (("--prompt-tokens", "0"), ["prompt tokens", "1 to"]),
        (("--prompt-tokens", "1,x"), ["--prompt-tokens", "whole numbers"]),
        (("--repeats", "0"), ["repeats", "1 to"]),
        (("--backend", "gpu"), ["gpu", "engine:numpy", "sim"]),
        (("--backend", "sim", "--granularity", "atom"), ["atom", "operator"]),
    ],
)
def test_a_wrong_request_to_bench(call: Call, tiny_net: Net, arguments: tuple[str, ...], words: list[str]) -> None:
    _refused(call("bench", tiny_net.path, *arguments), USAGE, *words)


@pytest.mark.parametrize(
    ("option", "known"),
    [("--backend", defaults.MEASURABLE_BACKENDS), ("--granularity", defaults.GRANULARITIES)],
)
@pytest.mark.parametrize("value", ["gpu", "{first},gpu", "", "{first},"])
def test_a_list_of_bench_is_refused_before_the_network_is_read(
    call: Call, tmp_path: Path, option: str, known: tuple[str, ...], value: str
) -> None:
    called = call("bench", tmp_path / "no network", option, value.format(first=known[0]))
    _refused(called, USAGE, f"known: {', '.join(known)}")


def test_a_list_may_have_spaces(call: Call, tmp_path: Path) -> None:
    called = call("bench", tmp_path / "no network", "--backend", "engine, engine:numpy", "--prompt-tokens", "1, 2")
    _refused(called, CHECKPOINT, "no network")


def test_a_text_prompt_without_a_tokenizer(call: Call, net_copy: Path) -> None:
    manifest = json.loads((net_copy / "manifest.json").read_text())
    del manifest["files"]["tokenizer.json"]
    (net_copy / "manifest.json").write_text(json.dumps(manifest))
    (net_copy / "tokenizer.json").unlink()
    _refused(call("run", net_copy, "--backend", "engine", "--prompt", "x"), USAGE, "--ids")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--backend", "torch", "--device", "abacus"), UNAVAILABLE, ["no device 'abacus' here", "cpu"]),
        (("--backend", "torch", "--device", "cuda:99"), UNAVAILABLE, ["no device 'cuda:99' here", "cpu"]),
        (("--backend", "engine", "--device", "cuda"), USAGE, ["'cuda'", "torch backend", "engine"]),
        (("--backend", "torch", "--device", "cpu", "--activity"), USAGE, ["the torch backend does not show"]),
    ],
)
def test_a_device_that_is_not_there_or_of_no_use(
    call: Call, tiny_net: Net, arguments: tuple[str, ...], code: int, words: list[str]
) -> None:
    _refused(call("run", tiny_net.path, "--ids", "1", *arguments), code, *words)


def test_a_backend_that_is_not_there(call: Call, tiny_net: Net) -> None:
    _refused(call("run", tiny_net.path, "--backend", "loihi2", "--ids", "1"), UNAVAILABLE, "INRC", "sim")


def test_profiling_without_a_chip(call: Call, tiny_net: Net) -> None:
    called = call("run", tiny_net.path, "--backend", "engine", "--ids", "1", "--profile")
    _refused(called, USAGE, "--backend loihi2", "report")


@pytest.mark.parametrize("command", ["run", "inspect", "compare"])
def test_a_network_that_is_not_there(call: Call, tmp_path: Path, command: str) -> None:
    prompt = ("--ids", "1") if command == "run" else ()
    _refused(call(command, tmp_path / "net", *prompt), CHECKPOINT, "no such folder")


def test_a_damaged_network(call: Call, net_copy: Path) -> None:
    content = bytearray((net_copy / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (net_copy / "weights.safetensors").write_bytes(content)
    _refused(call("run", net_copy, "--ids", "1"), CHECKPOINT, "weights.safetensors", "SHA-256")


def test_a_network_of_a_newer_version(call: Call, net_copy: Path) -> None:
    manifest = json.loads((net_copy / "manifest.json").read_text())
    (net_copy / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    _refused(call("run", net_copy, "--ids", "1"), CHECKPOINT, "schema 99")


def test_a_checkpoint_that_is_not_there(call: Call, tmp_path: Path) -> None:
    _refused(call("compile", tmp_path / "nothing", "-o", tmp_path / "net"), CHECKPOINT, "nothing")
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preset", "a9"), ["'a9'", "abreu2025"]),
        (("--preset", "a8", "--config", "no.toml"), ["--config", "--preset"]),
        (("--zeros", "1.5"), ["zeros is 1.5", "0 to 0.95"]),
        (("--act-bits", "3"), ["activation_bits is 3"]),
        (("--state-bits", "7"), ["state_bits is 7"]),
        (("--method", "best"), ["method is 'best'", "fine_least_squares"]),
    ],
)
def test_settings_that_are_none(
    call: Call, tiny_checkpoint: Path, tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    _refused(call("compile", tiny_checkpoint, "-o", tmp_path / "net", *arguments), USAGE, *words)


def test_a_device_that_is_not_there(call: Call, tiny_checkpoint: Path, tmp_path: Path) -> None:
    called = call("compile", tiny_checkpoint, "-o", tmp_path / "net", "--device", "abacus")
    assert called.code == 7
    assert "no device 'abacus'" in called.err
    assert not (tmp_path / "net").exists()


def test_a_truncated_checkpoint_leaves_earlier_output(call: Call, tiny_copy: Path, net_copy: Path) -> None:
    weights = tiny_copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    before = {path.name: path.read_bytes() for path in net_copy.iterdir()}
    _refused(call("compile", tiny_copy, "-o", net_copy, "--force"), CHECKPOINT, "model.safetensors")
    assert {path.name: path.read_bytes() for path in net_copy.iterdir()} == before


def test_a_weight_that_is_no_number(call: Call, tiny_copy: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_copy / "model.safetensors")
    weights["model.layers.2.attn.o_proj.weight"][3, 5] = np.nan
    save_file(weights, tiny_copy / "model.safetensors")
    called = call("compile", tiny_copy, "-o", tmp_path / "net")
    _refused(called, CHECKPOINT, "model.layers.2.attn.o_proj.weight")
    assert not (tmp_path / "net").exists()


def test_what_was_chosen_in_a_checkpoint_is_told_on_the_console_and_in_json(
    call: Call, tiny_copy: Path, tmp_path: Path
) -> None:
    weights = {name: torch.from_numpy(each) for name, each in load_file(tiny_copy / "model.safetensors").items()}
    torch.save({"epoch": 3, "model_state_dict": weights}, tmp_path / "run.ckpt")
    shutil.copy(tiny_copy / "config.json", tmp_path)
    called = call("compile", tmp_path / "run.ckpt", "-o", tmp_path / "net", "--json")
    assert called.code == 0
    said = "run.ckpt: the model's tensors are those in 'model_state_dict'; not used: 'epoch'"
    assert f"notice: {said}\n" in called.err
    assert said in called.document["notices"]


def test_the_id_of_a_model_that_cannot_be_fetched(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    called = call("compile", "owner/name", "-o", "net")
    _refused(called, CHECKPOINT, "error: owner/name: no such file or folder here", "`hf download owner/name ")


def test_another_architecture(call: Call, tiny_copy: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_copy / "config.json").read_text())
    (tiny_copy / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    _refused(call("compile", tiny_copy, "-o", tmp_path / "net"), UNSUPPORTED, "llama")


def test_short_convolutions(call: Call, tiny_copy: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_copy / "config.json").read_text())
    (tiny_copy / "config.json").write_text(json.dumps({**config, "use_short_conv": True}))
    _refused(call("compile", tiny_copy, "-o", tmp_path / "net"), UNSUPPORTED, "use_short_conv")


def test_accumulators_that_could_overflow(call: Call, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "narrow.toml").write_text("accumulator_bits = 16\n")
    called = call("compile", tiny_checkpoint, "-o", tmp_path / "net", "--chip", tmp_path / "narrow.toml")
    _refused(called, DOES_NOT_FIT, "lm_head: 16-bit accumulator", "32767", "--act-bits")


def test_a_system_file_with_a_limit_that_is_none(call: Call, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text("neurons_per_core = 0\n")
    called = call("compile", tiny_checkpoint, "-o", tmp_path / "net", "--chip", tmp_path / "odd.toml")
    _refused(called, USAGE, "odd.toml", "neurons_per_core is 0")


def test_a_disk_that_fills_during_compile(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from loihi_mmfree.cli.main import main; main()"]
    command += ["compile", str(tiny_checkpoint), "-o", str(tmp_path / "net")]

    def no_file_above_100_kb() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    found = subprocess.run(command, capture_output=True, timeout=120, preexec_fn=no_file_above_100_kb)
    assert found.returncode == USAGE
    assert b"not written: File too large; nothing was changed" in found.stderr
    assert b"Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_exists(call: Call, tiny_checkpoint: Path, net_copy: Path) -> None:
    before = (net_copy / "manifest.json").read_bytes()
    _refused(call("compile", tiny_checkpoint, "-o", net_copy), USAGE, "--force")
    assert (net_copy / "manifest.json").read_bytes() == before


def test_a_calibration_text_that_is_not_there(call: Call, tiny_checkpoint: Path, tmp_path: Path) -> None:
    called = call("compile", tiny_checkpoint, "-o", tmp_path / "net", "--calib", tmp_path / "none.txt")
    _refused(called, USAGE, "none.txt")


def test_calibration_ids_outside_the_vocabulary(call: Call, tiny_checkpoint: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.array([1, 2, 512]))
    called = call("compile", tiny_checkpoint, "-o", tmp_path / "net", "--calib", tmp_path / "ids.npy")
    _refused(called, USAGE, "512")


def _alter(net: Path, tensor: str, change: Callable[[np.ndarray], None]) -> None:
    """Change a stored tensor and make the manifest agree with it, as a careful forger would."""
    path = net / "weights.safetensors"
    stored = load_file(path)
    change(stored[tensor])
    save_file(stored, path)
    manifest = json.loads((net / "manifest.json").read_text())
    manifest["files"][path.name] = file_sha256(path)
    manifest["tensors"][tensor] = tensor_sha256(stored[tensor])
    (net / "manifest.json").write_text(json.dumps(manifest))


def _flip_a_code(packed: np.ndarray) -> None:
    """Replace one ternary code by another."""
    packed[0, 0] = (packed[0, 0] & 0b11111100) | (0 if packed[0, 0] & 3 else 1)


@pytest.mark.parametrize(
    "layer",
    [
        "layers.0.attn.i_proj", "layers.1.attn.f_proj", "layers.2.attn.g_proj", "layers.3.attn.o_proj",
        "layers.0.mlp.gate_proj.gate", "layers.1.mlp.gate_proj.up", "layers.2.mlp.down_proj", "lm_head",
    ],
)  # fmt: skip
def test_one_altered_weight_is_traced_to_its_layer(call: Call, net_copy: Path, layer: str) -> None:
    _alter(net_copy, f"{layer}.codes", _flip_a_code)
    load_net(net_copy)  # every hash agrees
    called = call("compare", net_copy, "--no-lava")
    _refused(called, MISMATCH, f"engine = golden messages: first {layer}:out")


def test_an_altered_tensor_with_an_honest_manifest_is_named(call: Call, net_copy: Path) -> None:
    stored = load_file(net_copy / "weights.safetensors")
    stored["layers.1.attn.mlgru.lower_bound"][7] += 1
    save_file(stored, net_copy / "weights.safetensors")
    _refused(call("compare", net_copy, "--no-lava"), MISMATCH, "layers.1.attn.mlgru.lower_bound")


@pytest.mark.parametrize(("table", "entry"), [("tables.sigmoid", 256), ("tables.rsqrt", 0)])
def test_one_altered_table_entry_is_named_whether_or_not_the_golden_input_reaches_it(
    call: Call, net_copy: Path, table: str, entry: int
) -> None:
    def change(values: np.ndarray) -> None:
        values[entry] -= 1

    _alter(net_copy, table, change)
    _refused(call("compare", net_copy, "--no-lava"), MISMATCH, f"tables = specification: first {table}")


def test_ctrl_c_during_compile_leaves_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from loihi_mmfree.cli.main import main; main()"]
    command += ["compile", str(tiny_checkpoint), "-o", str(tmp_path / "net")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert any(tmp_path.iterdir()), "compile never began to write"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_place(call: Call, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    _refused(call("compile", tiny_checkpoint, "-o", tmp_path / "file" / "net"), USAGE, "cannot write")


def test_a_folder_of_something_else_survives_force(call: Call, tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "mine")
    _refused(call("compile", tiny_checkpoint, "-o", tmp_path / "mine", "--force"), USAGE, "not a compiled network")
    assert (tmp_path / "mine" / "model.safetensors").is_file()

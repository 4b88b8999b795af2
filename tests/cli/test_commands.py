"""The commands, as a user calls them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from loihi_mmfree import QuantizationConfig, defaults
from loihi_mmfree.files import parse_toml
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.quantize.config import LIMITS

Call = Callable[..., Any]
needs_lava = pytest.mark.skipif(find_spec("lava") is None, reason="Lava is not installed")


def test_help_needs_no_heavy_import() -> None:
    script = (
        "import sys\nfrom loihi_mmfree.cli.main import main\nsys.argv[1:] = ['run', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = 'torch', 'brevitas', 'lava', 'numpy', 'pydantic', 'rich', 'packaging', 'email'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["compile", "run", "compare", "inspect", "report", "bench", "doctor", "demo"])
def test_every_command_explains_itself(call: Call, command: str) -> None:
    called = call(command, "--help")
    assert called.code == 0
    assert "--json" in called.out


def test_the_help_of_activation_bits_names_what_is_accepted(call: Call) -> None:
    least, most = LIMITS["activation_bits"]
    assert f"inputs, {least} to {most} [default: {QuantizationConfig().activation_bits}]" in " ".join(
        call("compile", "--help").out.split()
    )


def test_the_help_of_bench_lists_every_backend(call: Call) -> None:
    assert f"List: {', '.join(defaults.MEASURABLE_BACKENDS)}." in " ".join(call("bench", "--help").out.split())


def test_version(call: Call) -> None:
    assert call("--version").out.startswith("loihi-mmfree 0.")


def test_compile_reports_what_it_wrote(call: Call, tiny_checkpoint: Path, tmp_path: Path) -> None:
    called = call("compile", tiny_checkpoint, "-o", tmp_path / "net", "--act-bits", 10, "--json")
    assert called.code == 0
    assert called.document["depth_steps"] == 12 * 4 + 3
    assert (tmp_path / "net" / "manifest.json").is_file()


def test_compile_takes_the_settings_of_another_network(
    call: Call, tiny_checkpoint: Path, tiny_net: Net, tmp_path: Path
) -> None:
    called = call("compile", tiny_checkpoint, "-o", tmp_path / "net", "--config", tiny_net.path / "config.toml")
    assert called.code == 0
    assert (tmp_path / "net" / "weights.safetensors").read_bytes() == (
        tiny_net.path / "weights.safetensors"
    ).read_bytes()


def test_settings_come_from_a_preset_and_options_go_over_them(
    call: Call, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    call(
        "compile", tiny_checkpoint, "-o", tmp_path / "net", "--preset", "a8", "--zeros", "0.3", "--weight-bits", 2,
        "--state-bits", 14, "--method", "fine_least_squares",
    )  # fmt: skip
    settings = parse_toml((tmp_path / "net" / "config.toml").read_text(), "config.toml")
    assert settings["weight_bits"] == 2
    assert settings["quantization"]["activation_bits"] == 8
    assert settings["quantization"]["state_bits"] == 14
    assert settings["quantization"]["sites"] == [
        {"match": "*.input", "method": "fine_least_squares", "zeros": 0.3}
    ]


def test_run_prints_a_document_with_all_that_is_promised(call: Call, tiny_net: Net) -> None:
    called = call("run", tiny_net.path, "--backend", "engine", "--ids", "1,5,9", "-n", 4, "--json")
    promised = {
        "backend", "granularity", "prompt_ids", "new_ids", "text", "logits_sha256", "tokens_per_s",
        "prefill_tokens_per_s", "steps", "overflows", "peak_rss_mb", "versions",
    }  # fmt: skip
    assert promised <= called.document.keys()
    assert called.document["prompt_ids"] == [1, 5, 9]
    assert called.document["overflows"] == 0


def test_a_system_that_does_not_count_memory_reports_none(
    call: Call, tiny_net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    called = call("run", tiny_net.path, "--backend", "engine", "--ids", "1", "-n", 1, "--json")
    assert called.document["peak_rss_mb"] is None
    table = call("bench", tiny_net.path, "--backend", "engine", "--prompt-tokens", 1, "-n", 1, "--repeats", 1)
    assert "| not known |" in table.out


def test_logits_out_holds_every_position_and_its_hash_is_the_reported_one(
    call: Call, tiny_net: Net, tmp_path: Path
) -> None:
    out = tmp_path / "logits.npz"
    arguments = ("--backend", "engine", "--ids", "1,5,9", "-n", 4, "--ignore-eos", "--logits-out", out, "--json")
    document = call("run", tiny_net.path, *arguments).document
    with np.load(out) as written:
        ids, logits, scale = written["ids"], written["logits"], float(written["scale"])
    assert ids.tolist() == [1, 5, 9, *document["new_ids"][:-1]]
    assert logits.dtype == np.int32
    assert logits.shape == (3 + 4 - 1, 512)
    assert document["logits_sha256"] == hashlib.sha256(logits.astype("<i4").tobytes()).hexdigest()
    assert logits[2:].argmax(axis=1).tolist() == document["new_ids"]
    assert scale == tiny_net.manifest["logit_scale"]


def test_text_and_its_ids_are_the_same_prompt(call: Call, tiny_net: Net, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("The old man")
    common = ("run", tiny_net.path, "--backend", "engine", "-n", 3, "--json")
    as_text = call(*common, "--prompt", "The old man").document
    as_file = call(*common, "--prompt-file", tmp_path / "prompt.txt").document
    as_ids = call(*common, "--ids", ",".join(map(str, as_text["prompt_ids"]))).document
    hashes = {document["logits_sha256"] for document in (as_text, as_file, as_ids)}
    assert len(hashes) == 1


def test_compiled_kernels_and_numpy_give_the_same_document(call: Call, tiny_net: Net) -> None:
    common = ("run", tiny_net.path, "--backend", "engine", "--ids", "1,5,9,17", "-n", 6, "--ignore-eos", "--json")
    compiled, numpy = (call(*common, "--kernels", kernels).document for kernels in ("compiled", "numpy"))
    same = ("new_ids", "logits_sha256", "steps", "saturations", "overflows", "text")
    assert {key: compiled[key] for key in same} == {key: numpy[key] for key in same}


def test_the_torch_backend_gives_the_document_of_the_engine(call: Call, tiny_net: Net) -> None:
    common = ("run", tiny_net.path, "--ids", "1,5,9,17", "-n", 6, "--ignore-eos", "--json", "--backend")
    torch, engine = (call(*common, *backend).document for backend in (("torch", "--device", "cpu"), ("engine",)))
    same = ("new_ids", "logits_sha256", "steps", "saturations", "overflows", "text", "granularity")
    assert {key: torch[key] for key in same} == {key: engine[key] for key in same}
    assert torch["backend"] == "torch"


def test_tokens_of_a_run_make_the_text_of_its_document(call: Call, tiny_net: Net) -> None:
    common = ("run", tiny_net.path, "--backend", "engine", "--prompt", "The old man", "-n", 12)
    text = call(*common, "--json").document["text"]
    assert call(*common).out.rstrip("\n") == "The old man" + text.rstrip("\n")


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(call: Call, tiny_net: Net) -> None:
    def sampled(seed: int) -> list[int]:
        arguments = ("--temperature", 1.5, "--top-k", 50, "--top-p", 0.95, "--seed", seed, "--ignore-eos")
        run = call("run", tiny_net.path, "--backend", "engine", "--ids", "1,5", "-n", 12, *arguments, "--json")
        return list(run.document["new_ids"])

    assert sampled(3) == sampled(3)
    assert sampled(3) != sampled(4)


def test_inspect_counts_what_the_checkpoint_has(call: Call, tiny_net: Net, tiny_checkpoint: Path) -> None:
    document = call("inspect", tiny_net.path, "--nodes", "--json").document
    hidden, inner, layers = 128, 512, 4
    reductions = layers * (3 * hidden + inner) * 4 + 4 * hidden
    delays = layers * (5 * hidden + inner) + hidden
    weights = load_file(tiny_checkpoint / "model.safetensors")
    projections = [each.astype(np.float64) for name, each in weights.items() if "proj.weight" in name]
    projections.append(weights["lm_head.weight"].astype(np.float64))
    nonzero = sum(int((np.abs(each) > 0.5 * np.abs(each).mean()).sum()) for each in projections)
    assert sum(block["synapses"] for block in document["blocks"]) == nonzero + reductions + delays
    assert document["depth_steps"] == 12 * layers + 3
    assert document["formats"]["layers.0.attn.i_proj.input"][0] == 12
    assert len(document["blocks"]) == layers + 2


def test_inspect_prints_a_neuron_program(call: Call, tiny_net: Net) -> None:
    program = tiny_net.graph.by_name["layers.2.attn.mlgru"].program  # type: ignore[attr-defined]
    lines = call("inspect", tiny_net.path, "--program", "layers.2.attn.mlgru").out.strip().splitlines()
    assert len([line for line in lines if not line.startswith(";")]) == len(program.instructions)


@needs_lava
def test_compare_accepts_what_was_compiled(call: Call, tiny_net: Net, tiny_checkpoint: Path) -> None:
    called = call("compare", tiny_net.path, "--ckpt", tiny_checkpoint, "--json")
    assert called.code == 0
    assert called.document["equal"] is True
    names = [stage["name"] for stage in called.document["stages"]]
    assert names == [
        "tensors = manifest",
        "tables = specification",
        "engine = golden messages",
        "network = checkpoint lowered again",
        "engine = checkpoint lowered again",
        "Lava = engine",
    ]
    assert all(stage["compared"] > 0 for stage in called.document["stages"])
    assert max(each["relative"] for each in called.document["deviations"]) < 0.02


@needs_lava
def test_demo_compiles_and_runs_the_bundled_checkpoint_on_lava(call: Call) -> None:
    called = call("demo", "-n", 3, "--json")
    assert called.code == 0
    assert called.document["equal"] is True
    assert called.document["overflows"] == 0


def test_bench_measures_every_combination_beside_the_machine(call: Call, tiny_net: Net) -> None:
    arguments = ("--prompt-tokens", "2,5", "-n", 2, "--repeats", 2, "--warm-up", 0, "--json")
    document = call("bench", tiny_net.path, *arguments).document
    assert [row["prompt_tokens"] for row in document["rows"]] == [2, 5]
    for row in document["rows"]:
        rate = row["decode_tokens_per_s"]
        assert 0 < rate["least"] <= rate["median"] <= rate["greatest"]
    assert document["machine"]["read_gb_per_s"] > 0


def test_bench_writes_one_csv_row_a_combination(call: Call, tiny_net: Net) -> None:
    arguments = ("--prompt-tokens", "2,3,4", "-n", 1, "--repeats", 1, "--warm-up", 0, "--format", "csv")
    lines = call("bench", tiny_net.path, *arguments).out.strip().splitlines()
    assert len(lines) == 1 + 3
    assert "decode_tokens_per_s_median" in lines[0]

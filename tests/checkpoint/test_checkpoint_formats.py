from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.checkpoint.readers import SafetensorsFile


def assert_holds(checkpoint, state):
    """Every tensor comes back as the float32 value of what was stored."""
    assert sorted(checkpoint.names()) == sorted(state)
    for name, stored in state.items():
        tensor = checkpoint.tensor(name)
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, stored.float())


def test_a_folder_with_one_safetensors_file(folder, state):
    save_file(state, folder / "model.safetensors")
    assert_holds(open_checkpoint(folder), state)


def test_a_folder_with_safetensors_shards(state, write_shards):
    assert_holds(open_checkpoint(write_shards(state)), state)


def test_a_folder_with_one_pytorch_file(folder, state):
    torch.save(state, folder / "pytorch_model.bin")
    assert_holds(open_checkpoint(folder), state)


def test_a_folder_with_pytorch_shards(folder, state):
    names = sorted(state)
    weight_map = {}
    for shard, members in (("a.bin", names[:9]), ("b.bin", names[9:])):
        torch.save({name: state[name] for name in members}, folder / shard)
        weight_map |= dict.fromkeys(members, shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert_holds(open_checkpoint(folder), state)


def test_a_lone_safetensors_file_beside_its_configuration(folder, state):
    save_file(state, folder / "weights.safetensors")
    assert_holds(open_checkpoint(str(folder / "weights.safetensors")), state)


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin"])
def test_a_bare_state_dict_beside_its_configuration(folder, state, suffix):
    torch.save(state, folder / f"weights.{suffix}")
    assert_holds(open_checkpoint(folder / f"weights.{suffix}"), state)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_pytorch_file_with_the_configuration_inside(tmp_path, values, state, key):
    torch.save({"config": values, key: state, "step": 7}, tmp_path / "run.pt")
    checkpoint = open_checkpoint(tmp_path / "run.pt")
    assert checkpoint.config.vocab_size == 11
    assert_holds(checkpoint, state)


def test_a_nested_state_dict_beside_its_configuration(folder, state):
    torch.save({"model": state}, folder / "run.pt")
    assert_holds(open_checkpoint(folder / "run.pt"), state)


def test_safetensors_are_preferred_to_a_pickle_in_the_same_folder(folder, state):
    save_file(state, folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    assert_holds(open_checkpoint(folder), state)


@pytest.mark.parametrize("save", ["safetensors", "pytorch"])
def test_half_bfloat16_and_single_precision_may_be_mixed(folder, state, save):
    types = (torch.float16, torch.bfloat16, torch.float32)
    state = {name: tensor.to(types[index % 3]) for index, (name, tensor) in enumerate(state.items())}
    if save == "safetensors":
        save_file(state, folder / "model.safetensors")
    else:
        torch.save(state, folder / "pytorch_model.bin")
    assert_holds(open_checkpoint(folder), state)


def test_names_saved_from_inside_wrapper_modules_lose_their_prefix(folder, state):
    torch.save({f"module._orig_mod.{name}": tensor for name, tensor in state.items()}, folder / "a.pt")
    assert_holds(open_checkpoint(folder / "a.pt"), state)


@pytest.mark.parametrize("stored", [False, True])
def test_a_tied_head_is_the_embedding_whether_stored_or_not(folder, values, make_state, stored):
    values |= {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(values))
    state = make_state(values)
    embedding = state["model.embeddings.weight"]
    torch.save(state | ({"lm_head.weight": embedding} if stored else {}), folder / "tied.pt")
    checkpoint = open_checkpoint(folder / "tied.pt")
    assert "lm_head.weight" not in checkpoint.names()
    assert torch.equal(checkpoint.tensor("lm_head.weight"), embedding.float())


def test_shards_may_be_links_as_in_a_download_cache(state, write_shards, tmp_path_factory):
    folder = write_shards(state)
    blob = tmp_path_factory.mktemp("blobs") / "0123abcd"
    shard = folder / "model-00001-of-00002.safetensors"
    shard.rename(blob)
    shard.symlink_to(blob)
    assert_holds(open_checkpoint(folder), state)


def test_the_tokenizer_beside_the_weights_is_found(folder, state):
    save_file(state, folder / "model.safetensors")
    assert open_checkpoint(folder).tokenizer_path is None
    (folder / "tokenizer.model").write_bytes(b"")
    assert open_checkpoint(folder).tokenizer_path == folder / "tokenizer.model"
    (folder / "tokenizer.json").write_text("{}")
    assert open_checkpoint(folder).tokenizer_path == folder / "tokenizer.json"


def test_a_tensor_outlives_its_file_unchanged(folder, state):
    state = {name: tensor.float() for name, tensor in state.items()}
    save_file(state, folder / "model.safetensors")
    tensor = open_checkpoint(folder).tensor("model.embeddings.weight")
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(b"\0" * (folder / "model.safetensors").stat().st_size)
    assert torch.equal(tensor, state["model.embeddings.weight"])


def test_the_hash_depends_on_content_and_not_on_place(folder, state, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for place in (folder, elsewhere):
        save_file(state, place / "model.safetensors")
        (place / "config.json").write_bytes((folder / "config.json").read_bytes())
    original = open_checkpoint(folder).sha256()
    assert len(original) == 64
    assert open_checkpoint(elsewhere).sha256() == original
    save_file(state | {"model.norm.weight": state["model.norm.weight"] + 1}, elsewhere / "model.safetensors")
    assert open_checkpoint(elsewhere).sha256() != original


def test_the_hash_covers_the_configuration(folder, values, state):
    save_file(state, folder / "model.safetensors")
    original = open_checkpoint(folder).sha256()
    (folder / "config.json").write_text(json.dumps(values | {"rms_norm_eps": 1e-5}))
    assert open_checkpoint(folder).sha256() != original


def test_opening_safetensors_reads_headers_only_and_needs_no_torch(folder, state):
    save_file(state, folder / "model.safetensors")
    script = (
        "import sys; from loihi_mmfree.checkpoint import open_checkpoint; "
        f"open_checkpoint({str(folder)!r}); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_a_tensor_is_read_from_a_file_larger_than_memory(tmp_path: Path) -> None:
    path, size = tmp_path / "huge.safetensors", 2**40
    entries = {
        "small": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [size, size + 4]},
        "huge": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]},
    }
    header = json.dumps(entries).encode()
    content = np.array([1.0, -2.5], dtype="<f4").view("<u2")[1::2].tobytes()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        try:
            file.truncate(8 + len(header) + size)
        except OSError:
            pytest.skip("the file system keeps no files with holes")
        file.seek(0, os.SEEK_END)
        file.write(content)
    weights = SafetensorsFile(path)
    assert weights.catalog()["small"].shape == (1, 2)
    assert weights.read("small").tolist() == [[1.0, -2.5]]

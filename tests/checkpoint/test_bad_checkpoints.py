"""Every kind of damaged, foreign or hostile checkpoint gets one clear message of the right class."""

from __future__ import annotations

import json
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.errors import CheckpointError, UnsupportedModelError

EMBEDDING = "model.embeddings.weight"
PROJECTION = "model.layers.1.attn.o_proj.weight"


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere: no such file or folder"):
        open_checkpoint(tmp_path / "nowhere")


def test_a_folder_without_weights(folder):
    with pytest.raises(CheckpointError, match=r"no weights; expected one of model\.safetensors, "):
        open_checkpoint(folder)


def test_a_file_of_an_unknown_kind(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"model\.gguf: unknown kind of file"):
        open_checkpoint(tmp_path / "model.gguf")


def test_weights_without_a_configuration(tmp_path, state):
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no config\.json in "):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"model_type": ', id="cut off"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b"[" * 100_000, id="nested too deep"),
        pytest.param(b'{"hidden_size": ' + b"9" * 5000 + b"}", id="integer too long"),
        pytest.param(b'{"hidden_size": 8, "hidden_size": 16}', id="a key twice"),
        pytest.param(b'{"rms_norm_eps": NaN}', id="no number"),
    ],
)
def test_a_configuration_that_is_not_json(folder, state, content):
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json: not readable as JSON"):
        open_checkpoint(folder)


def test_a_configuration_that_is_not_an_object(folder, state):
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match=r"config\.json: holds a list; expected a JSON object"):
        open_checkpoint(folder)


def test_a_configuration_file_too_large_to_be_one(folder, state):
    save_file(state, folder / "model.safetensors")
    os.truncate(folder / "config.json", 2**40)
    with pytest.raises(CheckpointError, match=r"config\.json: .*1099511627776 bytes; at most 1048576"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "name", ["vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "expand_ratio"]
)
def test_absurd_sizes_are_refused_before_anything_is_allocated(folder, values, state, name):
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values | {name: 10**12}))
    with pytest.raises(CheckpointError, match=name):
        open_checkpoint(folder)


def test_the_largest_sizes_allowed_are_compared_with_the_file_without_allocating_them(folder, values, state):
    save_file(state, folder / "model.safetensors")
    large = {"vocab_size": 2**24, "hidden_size": 2**24, "intermediate_size": 2**24}
    (folder / "config.json").write_text(json.dumps(values | large))
    with pytest.raises(CheckpointError, match=r"embeddings\.weight is \[11, 8\], expected \[16777216, 16777216\]"):
        open_checkpoint(folder)


def test_another_model_type(folder, values, state):
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values | {"model_type": "llama"}))
    with pytest.raises(UnsupportedModelError, match=r"config\.json: model_type is 'llama'"):
        open_checkpoint(folder)


def test_weights_of_a_short_convolution(folder, state):
    name = "model.layers.0.attn.h_conv1d.weight"
    save_file(state | {name: torch.zeros(8, 1, 4)}, folder / "model.safetensors")
    with pytest.raises(UnsupportedModelError, match=rf"short convolutions are not supported.*{name}"):
        open_checkpoint(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_safetensors_file(folder, state, kept):
    save_file(state, folder / "model.safetensors")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a complete safetensors file"):
        open_checkpoint(folder)


@pytest.mark.parametrize("length", [10**6, 2**63, 2**64 - 1])
def test_a_safetensors_header_that_claims_to_be_huge(folder, length):
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        open_checkpoint(folder)


def test_a_missing_shard(state, write_shards):
    folder = write_shards(state)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"missing shards in .*: model-00002-of-00002\.safetensors"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", "c:x", "..\\x", "a\0b"]
)
def test_a_shard_name_that_is_not_a_plain_file_name(folder, state, name):
    save_file(state, folder.parent / "x.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="shard names must be plain file names of the same folder"):
        open_checkpoint(folder)


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {}}])
def test_an_index_without_a_weight_map(folder, index):
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"index\.json: no weight_map"):
        open_checkpoint(folder)


def test_a_tensor_that_is_in_two_shards(state, write_shards):
    folder = write_shards(state)
    save_file(state, folder / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors: .* is in .*model-00001"):
        open_checkpoint(folder)


def test_all_missing_unknown_and_misshapen_tensors_are_listed_together(folder, state):
    del state["model.norm.weight"], state["model.layers.0.mlp_norm.weight"]
    state |= {
        "model.extra": torch.zeros(3),
        PROJECTION: torch.zeros(8, 9),
        "lm_head.norm.weight": torch.zeros(7),
    }
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert str(caught.value).splitlines()[1:] == [
        "  missing: model.layers.0.mlp_norm.weight [8]",
        "  missing: model.norm.weight [8]",
        "  unknown: model.extra [3]",
        "  wrong shape: lm_head.norm.weight is [7], expected [8]",
        f"  wrong shape: {PROJECTION} is [8, 9], expected [8, 8]",
    ]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.complex64, torch.bool, torch.float8_e4m3fn])
@pytest.mark.parametrize("save", ["safetensors", "pytorch"])
def test_a_tensor_of_a_type_that_is_no_stored_float(folder, state, dtype, save):
    state |= {PROJECTION: state[PROJECTION].to(dtype)}
    if save == "safetensors":
        save_file(state, folder / "model.safetensors")
    else:
        torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=rf"wrong type: {PROJECTION} is .*; allowed: float16"):
        open_checkpoint(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", [PROJECTION, "model.lower_bounds", "model.embeddings.weight"])
def test_a_weight_that_is_not_finite(folder, state, name, value):
    state[name][1, 2] = value
    save_file(state, folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    with pytest.raises(CheckpointError, match=rf"{name} holds 1 values that are NaN or infinite.* at \[1, 2\]"):
        checkpoint.tensor(name)


@pytest.mark.parametrize("magnitude", [0.0, 4e-6])
def test_a_projection_whose_ternary_codes_would_all_be_zero(folder, state, magnitude):
    state[PROJECTION] = torch.full((8, 8), magnitude)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"{PROJECTION} is zero throughout"):
        open_checkpoint(folder).tensor(PROJECTION)


def test_a_tied_head_that_differs_from_the_embedding(folder, values, state):
    (folder / "config.json").write_text(json.dumps(values | {"tie_word_embeddings": True}))
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from model\.embeddings\.weight"):
        open_checkpoint(folder).tensor("lm_head.weight")


class Payload:
    """An object whose unpickling creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("place", ["state dict", "config", "alone"])
def test_a_pickle_that_would_execute_code_is_refused_and_not_executed(folder, values, state, place):
    trace = folder / "executed"
    payload = Payload(trace)
    content = {
        "state dict": state | {"model.norm.weight": payload},
        "config": {"config": values | {"hidden_act": payload}, "model": state},
        "alone": payload,
    }[place]
    torch.save(content, folder / "model.pt")
    with pytest.raises(CheckpointError, match=r"Python objects other than tensors.*nothing of it was run"):
        open_checkpoint(folder / "model.pt")
    assert not trace.exists()


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_outside_the_zip_format_is_refused_and_not_executed(folder, state, legacy):
    trace = folder / "executed"
    if legacy:
        torch.save(state | {"x": Payload(trace)}, folder / "model.pt", _use_new_zipfile_serialization=False)
    else:
        (folder / "model.pt").write_bytes(pickle.dumps(Payload(trace)))
    with pytest.raises(CheckpointError, match=r"not in the zip format of torch\.save"):
        open_checkpoint(folder / "model.pt")
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
def test_a_torchscript_program(folder):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(folder / "model.pt"))
    with pytest.raises(CheckpointError, match="is a TorchScript program"):
        open_checkpoint(folder / "model.pt")


@pytest.mark.parametrize("kept", [0, 3, 200, -30])
def test_a_truncated_pytorch_file(folder, state, kept):
    torch.save(state, folder / "model.pt")
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(content[:kept])
    with pytest.raises(CheckpointError, match=r"model\.pt: (damaged|not in the zip format)"):
        open_checkpoint(folder / "model.pt")


def test_a_zip_archive_that_is_no_pytorch_file(folder):
    with zipfile.ZipFile(folder / "model.pt", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(CheckpointError, match=r"model\.pt: damaged PyTorch file"):
        open_checkpoint(folder / "model.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list; expected a state dict"),
        ({"optimizer": {}, "step": 1}, "no tensors of a MatMul-free model.*found 'optimizer', 'step'"),
        ({"model": {"a": 1}}, "no tensors of a MatMul-free model"),
        ({EMBEDDING: torch.zeros(1).expand(2**40)}, f"tensor {EMBEDDING} .* is not stored in full"),
        ({EMBEDDING: torch.zeros(9)[:4], 3: torch.zeros(1)}, "expected named tensors only"),
    ],
)
def test_a_pytorch_file_that_is_no_state_dict(folder, content, message):
    torch.save(content, folder / "model.pt")
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder / "model.pt")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: torch.zeros(2, 2).to_sparse(), "_rebuild_sparse_tensor"),
        (lambda: torch.quantize_per_tensor(torch.zeros(2, 2), 1.0, 0, torch.qint8), "_rebuild_qtensor"),
        (lambda: torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]), "_rebuild_nested_tensor"),
        (lambda: torch.empty(2, 2, device="meta"), "_rebuild_meta_tensor"),
    ],
)
def test_a_tensor_of_another_kind_than_dense_is_refused_by_name(folder, state, make, named):
    torch.save(state | {PROJECTION: make()}, folder / "model.pt")
    with pytest.raises(CheckpointError, match=rf"objects other than tensors and plain values \(.*{named}"):
        open_checkpoint(folder / "model.pt")


def test_two_models_in_one_file(folder, state):
    torch.save({"model": state, "ema": {name: tensor.clone() for name, tensor in state.items()}}, folder / "a.pt")
    with pytest.raises(CheckpointError, match=r"2 sets of a model's tensors, in .*'ema'.*; save the one"):
        open_checkpoint(folder / "a.pt")


def test_a_head_that_is_absent_while_untied(folder, state):
    del state["lm_head.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"set tie_word_embeddings to true in config\.json"):
        open_checkpoint(folder)


@pytest.mark.parametrize("save", ["safetensors", "pytorch"])
def test_weights_that_are_packed_already(folder, state, save):
    state[PROJECTION] = torch.zeros(8, 2, dtype=torch.uint8)
    if save == "safetensors":
        save_file(state, folder / "model.safetensors")
    else:
        torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=rf"{PROJECTION} looks packed .*: expected are the float weights"):
        open_checkpoint(folder)


def test_one_shard_given_as_the_file(state, write_shards):
    shard = write_shards(state) / "model-00001-of-00002.safetensors"
    with pytest.raises(CheckpointError, match=rf"one shard of several; give the folder {shard.parent}$"):
        open_checkpoint(shard)


def test_a_folder_with_an_adapter_only(folder):
    (folder / "adapter_config.json").write_text("{}")
    save_file({"a": torch.zeros(1)}, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="adapter only: merge it into its base model"):
        open_checkpoint(folder)


def test_several_weight_files_without_a_name_of_hugging_face(folder, state):
    for name in ("step100.pt", "step200.pt"):
        torch.save(state, folder / name)
    with pytest.raises(CheckpointError, match=r"2 files of weights, step100\.pt, step200\.pt, .*give the one"):
        open_checkpoint(folder)


def test_many_wrong_tensors_are_counted_and_not_all_listed(folder, state):
    extra = {f"model.extra.{number}": torch.zeros(1) for number in range(3000)}
    save_file(state | extra, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"… and 2980 more$") as caught:
        open_checkpoint(folder)
    assert len(str(caught.value)) < 2000


def test_names_in_messages_hold_nothing_that_a_terminal_obeys(folder, state):
    save_file(state | {"model.\x1b[2J": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unknown: 'model\.\\x1b\[2J' \[1\]"):
        open_checkpoint(folder)

"""Folders in, folders out: what AutoConfig, AutoModelForCausalLM and AutoTokenizer load, and what is saved."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

import loihi_mmfree.hf
from loihi_mmfree.checkpoint import expected_shapes, open_checkpoint
from loihi_mmfree.errors import CheckpointError, Notice, UnsupportedModelError, UsageError
from loihi_mmfree.hf import HGRNBitConfig, HGRNBitForCausalLM
from loihi_mmfree.model.language_model import MatMulFreeLM
from loihi_mmfree.text import Tokenizer

HALF = {"torch_dtype": "auto"}
UPSTREAMS_KEYS = [
    *("model_type", "architectures", "vocab_size", "hidden_size", "num_hidden_layers", "attn_mode", "num_heads"),
    *("expand_ratio", "use_short_conv", "conv_size", "share_conv_kernel", "use_lower_bound", "hidden_ratio"),
    *("intermediate_size", "hidden_act", "max_position_embeddings", "rms_norm_eps", "use_cache", "bos_token_id"),
    *("eos_token_id", "tie_word_embeddings", "initializer_range", "fuse_cross_entropy"),
]


def bits(folder):
    """Type and content of all tensors in the weight files of a folder."""
    found = {}
    for file in folder.glob("*.safetensors"):
        found |= {name: (tensor.dtype, tensor.tolist()) for name, tensor in load_file(file).items()}
    return found


def test_a_folder_loads_as_config_model_and_tokenizer(loaded):
    assert isinstance(AutoConfig.from_pretrained(loaded.folder), HGRNBitConfig)
    assert isinstance(loaded.model, HGRNBitForCausalLM)
    assert not loaded.model.training
    assert loaded.model.config.shape() == loaded.own.config
    parameters = {name: tuple(parameter.shape) for name, parameter in loaded.model.named_parameters()}
    assert parameters == expected_shapes(loaded.own.config)


def test_the_tokenizer_gives_the_ids_that_ours_gives(loaded):
    text = 'It was a dark night; "Stay", said the 3rd of them.\n\tÉté </p>'
    found = AutoTokenizer.from_pretrained(loaded.folder)(text)["input_ids"]
    assert found == Tokenizer(loaded.folder / "tokenizer.json").encode(text)


def test_a_tokenizer_needs_no_file_that_names_its_class(tiny_copy):
    (tiny_copy / "tokenizer_config.json").unlink()
    found = AutoTokenizer.from_pretrained(tiny_copy)("It was")["input_ids"]
    assert found == Tokenizer(tiny_copy / "tokenizer.json").encode("It was")


def test_weights_kept_in_half_precision_give_the_same_logits(loaded):
    half = AutoModelForCausalLM.from_pretrained(loaded.folder, **HALF)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}
    with torch.no_grad():
        logits = half(loaded.ids("a")).logits
        assert logits.dtype == torch.float32
        assert torch.equal(logits, loaded.own(loaded.ids("a"))[0])


def test_what_is_saved_has_the_same_tensors_to_the_bit(loaded, tmp_path):
    AutoModelForCausalLM.from_pretrained(loaded.folder, **HALF).save_pretrained(tmp_path)
    assert bits(tmp_path) == bits(loaded.folder)


@pytest.mark.parametrize("size", ["5GB", "1MB"])
def test_what_is_saved_is_the_same_checkpoint_to_the_compiler(loaded, tmp_path, size):
    AutoModelForCausalLM.from_pretrained(loaded.folder, **HALF).save_pretrained(tmp_path, max_shard_size=size)
    AutoTokenizer.from_pretrained(loaded.folder).save_pretrained(tmp_path)
    saved, original = open_checkpoint(tmp_path), open_checkpoint(loaded.folder)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (size == "1MB")
    assert saved.config == original.config
    assert saved.notices == original.notices
    assert all(torch.equal(saved.tensor(name), original.tensor(name)) for name in original.names())
    encoded = [Tokenizer(folder / "tokenizer.json").encode("It was") for folder in (tmp_path, loaded.folder)]
    assert encoded[0] == encoded[1]


def test_a_saved_configuration_says_what_upstreams_said(loaded, tmp_path):
    """Every key that upstream's configuration class has (configuration_hgrn_bit.py), by value."""
    loaded.model.save_pretrained(tmp_path)
    upstreams = json.loads((loaded.folder / "config.json").read_text())
    saved = json.loads((tmp_path / "config.json").read_text())
    assert {key: saved[key] for key in UPSTREAMS_KEYS} == {key: upstreams[key] for key in UPSTREAMS_KEYS}


def test_a_tied_model_is_saved_and_loaded_tied(make_model, tmp_path):
    model = make_model(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.lm_head.weight is again.model.embeddings.weight
    own = MatMulFreeLM.from_checkpoint(open_checkpoint(tmp_path))
    ids = torch.arange(13)[None]
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)
        assert torch.equal(own(ids)[0], model(ids).logits)


@pytest.mark.parametrize(
    "changes",
    [
        {"expand_ratio": 2},
        {"use_lower_bound": False},
        {"num_heads": 4},
        {"norm_eps": 1e-5},
        {"eos_token_id": [2, 3]},
    ],
    ids=str,
)
def test_every_shape_of_model_goes_out_and_in(make_model, tmp_path, changes):
    model = make_model(**changes)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config.shape() == model.config.shape() == open_checkpoint(tmp_path).config
    with torch.no_grad():
        assert torch.equal(again(torch.arange(13)[None]).logits, model(torch.arange(13)[None]).logits)


def test_a_new_model_has_the_weights_that_ours_draws():
    config = HGRNBitConfig(vocab_size=13, hidden_size=16, num_hidden_layers=2)
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config)
    torch.manual_seed(3)
    own = MatMulFreeLM(config.shape())
    assert all(torch.equal(tensor, own.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["lm_head.weight", "model.lower_bounds", "model.layers.1.attn.g_norm.weight"])
def test_a_missing_tensor_is_an_error_and_not_drawn_anew(tiny_copy, name):
    tensors = load_file(tiny_copy / "model.safetensors")
    del tensors[name]
    save_file(tensors, tiny_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=name):
        AutoModelForCausalLM.from_pretrained(tiny_copy)


def test_a_model_that_is_not_supported_is_refused_by_its_setting(tiny_copy):
    config = json.loads((tiny_copy / "config.json").read_text())
    (tiny_copy / "config.json").write_text(json.dumps(config | {"use_short_conv": True}))
    with pytest.raises(UnsupportedModelError, match="use_short_conv"):
        AutoModelForCausalLM.from_pretrained(tiny_copy)


def test_the_vocabulary_cannot_be_resized(make_model):
    model = make_model()
    assert model.resize_token_embeddings(13) is model.get_input_embeddings()
    with pytest.raises(UsageError, match="cannot become 14"):
        model.resize_token_embeddings(14)
    assert model.get_input_embeddings().weight.shape == (13, 16)


def test_registering_again_changes_nothing_and_says_nothing(recwarn):
    loihi_mmfree.hf.register()
    assert not recwarn.list


def test_another_registration_is_replaced_and_named(tiny_checkpoint):
    """Upstream's own package, which needs Triton, registers a class of this name."""
    theirs = type(
        "HGRNBitConfig", (PretrainedConfig,), {"model_type": "hgrn_bit", "__module__": "mmfreelm.models"}
    )
    AutoConfig.register("hgrn_bit", theirs, exist_ok=True)
    try:
        with pytest.warns(Notice, match="hgrn_bit was registered with transformers by mmfreelm.models"):
            loihi_mmfree.hf.register()
    finally:
        AutoConfig.register("hgrn_bit", HGRNBitConfig, exist_ok=True)
    assert isinstance(AutoModelForCausalLM.from_pretrained(tiny_checkpoint), HGRNBitForCausalLM)


def test_without_transformers_the_extra_is_named(tmp_path):
    (tmp_path / "transformers.py").write_text("raise ImportError('not installed')")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import loihi_mmfree.hf"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'loihi-mmfree[hf]'" in done.stderr

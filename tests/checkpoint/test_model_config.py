from __future__ import annotations

import json
import math

import pytest

from loihi_mmfree.checkpoint import PUBLISHED_CONFIGS, ModelConfig, expected_shapes, parameter_count
from loihi_mmfree.checkpoint.config import unused_keys
from loihi_mmfree.errors import CheckpointError, UnsupportedModelError


@pytest.mark.parametrize(
    ("name", "count"), [("370M", 374_108_160), ("1.3B", 1_364_779_008), ("2.7B", 2_702_357_504)]
)
def test_published_models_have_their_published_parameter_count(name, count):
    assert parameter_count(PUBLISHED_CONFIGS[name]) == count


@pytest.mark.parametrize(("name", "size"), [("370M", 2816), ("1.3B", 5632), ("2.7B", 6912)])
def test_published_models_have_their_published_intermediate_size(name, size):
    assert PUBLISHED_CONFIGS[name].intermediate_size == size


def test_missing_keys_take_upstreams_defaults():
    config = ModelConfig.from_dict({"model_type": "hgrn_bit"})
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (32000, 2048, 24)
    assert (config.num_heads, config.expand_ratio, config.hidden_ratio) == (1, 1, 4)
    assert (config.use_lower_bound, config.tie_word_embeddings, config.rms_norm_eps) == (True, False, 1e-6)
    assert (config.bos_token_id, config.eos_token_id, config.intermediate_size) == (1, 2, 5632)


@pytest.mark.parametrize(
    ("hidden", "ratio", "expected"), [(128, 4, 512), (256, 4, 768), (384, 3, 768), (96, 4, 256)]
)
def test_a_null_intermediate_size_is_two_thirds_rounded_up_to_256(values, hidden, ratio, expected):
    config = ModelConfig.from_dict(
        values | {"hidden_size": hidden, "hidden_ratio": ratio, "intermediate_size": None}
    )
    assert config.intermediate_size == expected


def test_an_explicit_intermediate_size_is_kept(values):
    assert ModelConfig.from_dict(values | {"intermediate_size": 17}).intermediate_size == 17


def test_expand_ratio_widens_the_token_mixer_only(values):
    config = ModelConfig.from_dict(values | {"expand_ratio": 2, "num_heads": 4})
    shapes = expected_shapes(config)
    assert config.input_dim == 16
    assert shapes["model.layers.0.attn.f_proj.weight"] == (16, 8)
    assert shapes["model.layers.0.attn.o_proj.weight"] == (8, 16)
    assert shapes["model.layers.0.attn.g_norm.weight"] == (16,)
    assert shapes["model.lower_bounds"] == (2, 16)
    assert shapes["model.layers.0.mlp.gate_proj.weight"] == (32, 8)


def test_without_lower_bounds_there_is_no_such_tensor(values):
    assert "model.lower_bounds" not in expected_shapes(ModelConfig.from_dict(values | {"use_lower_bound": False}))


def test_tied_embeddings_count_once(values):
    untied = ModelConfig.from_dict(values)
    tied = ModelConfig.from_dict(values | {"tie_word_embeddings": True})
    assert "lm_head.weight" not in expected_shapes(tied)
    assert parameter_count(untied) - parameter_count(tied) == 11 * 8


def test_to_dict_is_read_back_as_the_same_configuration(values):
    config = ModelConfig.from_dict(values | {"expand_ratio": 2, "eos_token_id": None})
    assert ModelConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("activation", ["swish", "silu"])
def test_both_names_of_the_swish_are_accepted(values, activation):
    assert ModelConfig.from_dict(values | {"hidden_act": activation}).hidden_size == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", "llama"),
        ("model_type", None),
        ("use_short_conv", True),
        ("attn_mode", "chunk"),
        ("hidden_act", "gelu"),
    ],
)
def test_other_architectures_are_refused_by_name(values, name, value):
    with pytest.raises(UnsupportedModelError, match=rf"(?i)somewhere: {name} is .*{value}"):
        ModelConfig.from_dict(values | {name: value}, "somewhere")


def test_a_missing_model_type_is_refused(values):
    del values["model_type"]
    with pytest.raises(UnsupportedModelError, match=r"model_type is None; supported: 'hgrn_bit'"):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", -8),
        ("hidden_size", 0),
        ("hidden_size", "8"),
        ("hidden_size", 8.0),
        ("hidden_size", None),
        ("vocab_size", True),
        ("vocab_size", 10**15),
        ("num_hidden_layers", 10**9),
        ("num_heads", 0),
        ("num_heads", None),
        ("num_heads", 3),
        ("expand_ratio", -1),
        ("expand_ratio", 1e-3),
        ("hidden_ratio", math.inf),
        ("rms_norm_eps", math.nan),
        ("rms_norm_eps", 0),
        ("use_lower_bound", "yes"),
        ("tie_word_embeddings", 1),
        ("eos_token_id", 11),
        ("eos_token_id", -1),
        ("bos_token_id", [1]),
        ("intermediate_size", []),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(values, name, value):
    with pytest.raises(CheckpointError, match=rf"somewhere: .*{name}"):
        ModelConfig.from_dict(values | {name: value}, "somewhere")


def test_heads_that_do_not_divide_the_widened_channels_are_refused(values):
    with pytest.raises(CheckpointError, match="expand_ratio 12 is not a multiple of num_heads 8"):
        ModelConfig.from_dict(values | {"expand_ratio": 1.5, "num_heads": 8})


def test_a_list_of_end_tokens_is_kept_whole(values):
    config = ModelConfig.from_dict(values | {"eos_token_id": [2, 5, 2]})
    assert config.eos_token_id == (2, 5)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert ModelConfig.from_dict(values | {"eos_token_id": [3]}).eos_token_id == 3


@pytest.mark.parametrize("tokens", [[], [1, 11], [1, None], [True], list(range(11)) * 6])
def test_a_list_of_end_tokens_that_makes_no_sense_is_refused(values, tokens):
    with pytest.raises(CheckpointError, match="eos_token_id"):
        ModelConfig.from_dict(values | {"eos_token_id": tokens})


def test_norm_eps_is_another_name_of_rms_norm_eps(values):
    assert ModelConfig.from_dict(values | {"norm_eps": 1e-2}).rms_norm_eps == 1e-2
    both = {"norm_eps": 1e-5, "rms_norm_eps": 1e-5}
    assert ModelConfig.from_dict(values | both).rms_norm_eps == 1e-5


def test_two_names_of_one_thing_with_two_values_are_refused(values):
    with pytest.raises(CheckpointError, match=r"norm_eps is 0\.01 and rms_norm_eps 1e-06"):
        ModelConfig.from_dict(values | {"norm_eps": 1e-2, "rms_norm_eps": 1e-6})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer_norm_epsilon", 1e-5),
        ("quantization_config", {"quant_method": "bitnet"}),
        ("final_logit_softcapping", 30.0),
        ("attention_bias", True),
        ("embedding_multiplier", 12),
    ],
)
def test_an_unknown_key_that_by_its_name_shapes_the_model_is_refused(values, name, value):
    with pytest.raises(UnsupportedModelError, match=rf"unknown keys .*'{name}'"):
        ModelConfig.from_dict(values | {name: value})


@pytest.mark.parametrize("value", [None, False, 0, {}])
def test_an_unknown_key_that_is_off_is_accepted(values, value):
    assert unused_keys(values | {"attention_bias": value}) == []
    ModelConfig.from_dict(values | {"attention_bias": value})


def test_other_unknown_keys_are_named(values):
    assert unused_keys(values | {"wandb_run": "x", "torch_dtype": "float16", "use_cache": True}) == ["wandb_run"]

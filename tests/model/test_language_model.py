from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from loihi_mmfree.checkpoint import (
    PUBLISHED_CONFIGS,
    ModelConfig,
    expected_shapes,
    open_checkpoint,
    parameter_count,
)
from loihi_mmfree.model.language_model import MatMulFreeLM
from loihi_mmfree.model.ternary import BitLinear, frozen

VARIANTS = [
    {},
    {"num_heads": 4},
    {"expand_ratio": 2},
    {"expand_ratio": 2, "num_heads": 2, "use_lower_bound": False},
    {"tie_word_embeddings": True},
    {"use_lower_bound": False},
    {"intermediate_size": 5},
    {"num_hidden_layers": 1},
]
variants = pytest.mark.parametrize("changes", VARIANTS, ids=str)
IDS = torch.tensor([[1, 5, 3, 12, 0, 7, 7, 2], [4, 4, 9, 1, 11, 6, 10, 8]])


@variants
def test_parameters_have_upstreams_names_and_shapes(make_model, changes):
    model = make_model(**changes)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes == expected_shapes(model.config)


@variants
def test_token_by_token_equals_the_whole_text_at_once(make_model, changes):
    model = make_model(**changes)
    with torch.no_grad():
        whole, last = model(IDS)
        state, steps = None, []
        for t in range(IDS.shape[1]):
            logits, state = model(IDS[:, t : t + 1], state)
            steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state, last, rtol=1e-5, atol=1e-6)
    assert [tuple(layer.shape) for layer in state] == [(2, model.config.input_dim)] * len(model.model.layers)


def test_token_by_token_equals_the_whole_text_on_a_trained_model(reference):
    ids = torch.tensor(reference.golden["a/input_ids"])[None]
    with torch.no_grad():
        whole, _ = reference.model(ids)
        first, state = reference.model(ids[:, :9])
        steps = [first]
        for t in range(9, ids.shape[1]):
            logits, state = reference.model(ids[:, t : t + 1], state)
            steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=1e-5, atol=1e-5)


def test_texts_of_a_batch_do_not_see_each_other(make_model):
    model = make_model()
    with torch.no_grad():
        torch.testing.assert_close(model(IDS)[0][1:], model(IDS[1:])[0])


def test_no_token_sees_a_later_one(make_model):
    model = make_model()
    changed = IDS.clone()
    changed[:, 5] = 0
    with torch.no_grad():
        before, after = model(IDS)[0], model(changed)[0]
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5:], after[:, 5:])


def test_heads_only_reshape(make_model):
    with torch.no_grad():
        assert torch.equal(make_model(num_heads=4)(IDS)[0], make_model(num_heads=1)(IDS)[0])


def test_a_tied_head_equals_an_untied_one_with_the_embedding_as_its_weight(make_model):
    tied, untied = make_model(tie_word_embeddings=True), make_model()
    untied.load_state_dict(tied.state_dict())
    assert torch.equal(untied.lm_head.weight, tied.model.embeddings.weight)
    with torch.no_grad():
        assert torch.equal(tied(IDS)[0], untied(IDS)[0])


def test_lower_bounds_are_shares_summed_over_the_layers_below(make_model):
    model = make_model()
    bounds = model.model.forget_bounds()
    shares = model.model.lower_bounds.softmax(0)
    assert bounds[0] is None
    torch.testing.assert_close(bounds[1], shares[1])
    torch.testing.assert_close(bounds[2], shares[1] + shares[2])


def test_a_forget_gate_stays_above_its_lower_bound(make_model):
    """With the gate shut, h = lb h' + (1 - lb) silu(i): worked out by hand for one step."""
    mixer = make_model().model.layers[1].attn.mlgru
    i, f = torch.full((1, 1, 8), 2.0), torch.full((1, 1, 8), -100.0)
    states, last = mixer(i, f, torch.full((8,), 0.25), torch.full((1, 8), 4.0).double())
    silu = 2.0 / (1 + torch.tensor(-2.0).exp())
    torch.testing.assert_close(states[:, 0], (0.25 * 4 + 0.75 * silu).expand(1, 8))
    assert torch.equal(states[:, 0], last.float())


def test_taps_hold_the_output_of_every_module_and_change_nothing(make_model):
    model = make_model()
    taps = {}
    with torch.no_grad():
        plain, _ = model(IDS)
        tapped, state = model(IDS, taps=taps)
    assert torch.equal(plain, tapped)
    assert torch.equal(taps["lm_head"], tapped)
    assert torch.equal(taps["layers.2.attn.mlgru"][:, -1], state[2].float())
    torch.testing.assert_close(taps["layers.1"], taps["layers.0"] + taps["layers.1.attn"] + taps["layers.1.mlp"])
    assert not any(module._forward_hooks for module in model.modules())


def test_loading_the_same_checkpoint_gives_the_same_model(make_model, tmp_path):
    model = make_model(expand_ratio=2, num_heads=2)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()))
    loaded = MatMulFreeLM.from_checkpoint(open_checkpoint(tmp_path))
    with torch.no_grad():
        assert torch.equal(loaded(IDS)[0], model(IDS)[0])


def test_a_tied_checkpoint_stays_tied_when_loaded(make_model, tmp_path):
    model = make_model(tie_word_embeddings=True)
    torch.save({"config": model.config.to_dict(), "model": model.state_dict()}, tmp_path / "tied.pt")
    loaded = MatMulFreeLM.from_checkpoint(open_checkpoint(tmp_path / "tied.pt"))
    assert loaded.lm_head.weight is loaded.model.embeddings.weight
    with torch.no_grad():
        assert torch.equal(loaded(IDS)[0], model(IDS)[0])


@pytest.mark.parametrize("name", sorted(PUBLISHED_CONFIGS))
def test_the_published_sizes_can_be_built_from_the_configuration_alone(name):
    with torch.device("meta"):
        model = MatMulFreeLM(PUBLISHED_CONFIGS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == parameter_count(PUBLISHED_CONFIGS[name])


@variants
def test_training_lowers_the_loss_and_reaches_every_parameter(make_model, changes):
    model = make_model(**changes).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        logits, _ = model(IDS[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), IDS[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if len(losses) == 1:
            unused = {name for name, parameter in model.named_parameters() if parameter.grad is None}
            assert unused == ({"model.lower_bounds"} if changes == {"num_hidden_layers": 1} else set())
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


def test_a_model_in_half_precision_computes_what_its_weights_say_in_float32(make_model):
    half = make_model().half()
    exact = make_model()
    exact.load_state_dict(half.state_dict())
    with torch.no_grad():
        assert torch.equal(half(IDS)[0], exact(IDS)[0])


def test_training_a_frozen_model_uses_its_new_weights(make_model):
    model = make_model().freeze()
    before = model(IDS)[0].detach()
    model.train()
    with torch.no_grad():
        model.lm_head.weight.neg_()
    torch.testing.assert_close(model.freeze()(IDS)[0], -before)


def test_a_model_is_frozen_within_a_context_only_unless_it_was_before(make_model):
    model = make_model()
    model.lm_head.freeze()
    with frozen(model):
        assert all(module.frozen_codes is not None for module in model.modules() if isinstance(module, BitLinear))
    left = [name for name, module in model.named_modules() if getattr(module, "frozen_codes", None) is not None]
    assert left == ["lm_head"]


def test_fresh_weights_follow_upstreams_initialisation():
    config = ModelConfig.from_dict(
        {"model_type": "hgrn_bit", "hidden_size": 256, "vocab_size": 512, "num_hidden_layers": 2}
    )
    model = MatMulFreeLM(config)
    block = model.model.layers[0]
    assert block.attn.i_proj.weight.abs().max().item() == pytest.approx(2**-2.5 * (6 / 512) ** 0.5, rel=1e-2)
    for weight, spread in (
        (model.model.embeddings.weight, 0.02),
        (model.lm_head.weight, 0.02),
        (block.mlp.gate_proj.weight, 0.02),
        (block.mlp.down_proj.weight, 0.01),
    ):
        assert weight.std().item() == pytest.approx(spread, rel=2e-2)
    assert model.model.lower_bounds.abs().max() == 0

"""One call of the model: upstream's outputs, loss, padding, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loihi_mmfree.errors import UsageError
from loihi_mmfree.model.perplexity import token_losses

IDS = torch.tensor([[1, 5, 3, 12, 0, 7, 7, 2, 9, 4, 11], [4, 4, 9, 1, 11, 6, 10, 8, 3, 2, 0]])


def relative_error(found, expected):
    assert found.shape == expected.shape
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("prompt", ["a", "b", "c"])
def test_logits_agree_with_upstreams_to_2e_2(loaded, prompt):
    with torch.no_grad():
        logits = loaded.model(loaded.ids(prompt)).logits[0].numpy()
    assert relative_error(logits, loaded.golden[f"{prompt}/logits"]) <= 2e-2


def test_hidden_states_are_those_of_upstream(loaded):
    with torch.no_grad():
        states = loaded.model(loaded.ids("a"), output_hidden_states=True).hidden_states
    errors = [
        relative_error(found[0].numpy(), expected)
        for found, expected in zip(states, loaded.golden["a/hidden_states"], strict=True)
    ]
    assert errors[0] == 0
    assert errors[1] < 1e-5
    assert max(errors) <= 2e-2


def test_the_loss_is_that_of_upstreams_logits(loaded):
    with torch.no_grad():
        loss = loaded.model(loaded.ids("b"), labels=loaded.ids("b")).loss.item()
    ids, logits = loaded.golden["b/input_ids"], loaded.golden["b/logits"]
    assert loss == pytest.approx(token_losses(logits[:-1], ids[1:]).mean(), rel=5e-3)


def test_the_loss_leaves_out_what_is_labelled_minus_100(make_model):
    model, labels = make_model(), IDS.clone()
    labels[:, 6:] = -100
    with torch.no_grad():
        output = model(IDS, labels=labels)
    losses = [token_losses(output.logits[b, :5].numpy(), IDS[b, 1:6].numpy()) for b in range(2)]
    assert output.loss.item() == pytest.approx(np.concatenate(losses).mean(), rel=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_every_text_of_a_padded_batch_gives_what_it_gives_alone_bit_for_bit(loaded, side):
    texts = [loaded.ids(prompt)[0] for prompt in ("a", "b", "c")] + [loaded.ids("b")[0, :5]]
    longest = max(map(len, texts))
    ids, mask = torch.zeros(2, len(texts), longest, dtype=torch.int64)
    places = [slice(longest - len(text), None) if side == "left" else slice(len(text)) for text in texts]
    for row, (text, place) in enumerate(zip(texts, places, strict=True)):
        ids[row, place], mask[row, place] = text, 1
    with torch.no_grad():
        batch = loaded.model(ids, attention_mask=mask)
        for row, (text, place) in enumerate(zip(texts, places, strict=True)):
            alone = loaded.model(text[None])
            assert torch.equal(batch.logits[row, place], alone.logits[0])
            for together, apart in zip(batch.past_key_values.state, alone.past_key_values.state, strict=True):
                assert torch.equal(together[row].float(), apart[0].float())


def test_what_stands_in_the_padding_does_not_matter(make_model):
    model, other = make_model(), IDS.clone()
    other[:, :4] = 12
    mask = torch.ones_like(IDS)
    mask[:, :4] = 0
    with torch.no_grad():
        assert torch.equal(model(IDS, attention_mask=mask).logits[:, 4:], model(other, mask).logits[:, 4:])


@pytest.mark.parametrize("shape", [(2, 10), (1, 11), (2, 1, 11, 11)], ids=str)
def test_a_mask_that_does_not_fit_is_refused(make_model, shape):
    with pytest.raises(UsageError, match="attention_mask is"):
        make_model()(IDS, attention_mask=torch.ones(shape))


def test_a_text_in_pieces_gives_the_logits_of_the_whole_bit_for_bit(loaded):
    ids = loaded.ids("b")
    with torch.no_grad():
        whole = loaded.model(ids)
        first = loaded.model(ids[:, :20], use_cache=True)
        second = loaded.model(ids[:, 20:], past_key_values=first.past_key_values)
    assert torch.equal(torch.cat([first.logits, second.logits], 1), whole.logits)
    assert second.past_key_values.get_seq_length() == ids.shape[1]


def test_only_the_logits_asked_for_are_computed(make_model):
    model = make_model()
    with torch.no_grad():
        whole = model(IDS).logits
        assert torch.equal(model(IDS, logits_to_keep=2).logits, whole[:, -2:])
        assert torch.equal(model(IDS, logits_to_keep=torch.tensor([0, 3])).logits, whole[:, [0, 3]])


def test_a_tuple_holds_what_the_output_holds(make_model):
    model = make_model()
    with torch.no_grad():
        loss, logits, _ = model(IDS, labels=IDS, return_dict=False)
        output = model(IDS, labels=IDS)
    assert torch.equal(loss, output.loss)
    assert torch.equal(logits, output.logits)


def test_no_cache_comes_back_while_training(make_model):
    assert make_model().train()(IDS).past_key_values is None


def test_the_gradient_is_that_of_the_reference_and_reaches_every_parameter(loaded):
    ids, own, model = loaded.ids("a"), loaded.own, loaded.model
    own.train()
    logits, _ = own(ids)
    torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]).backward()
    model(ids, labels=ids).loss.backward()
    try:
        for name, parameter in model.named_parameters():
            expected = own.get_parameter(name).grad
            assert expected.abs().max() > 0, name
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)
    finally:
        own.zero_grad()
        model.zero_grad()
        own.freeze()


def test_padding_adds_nothing_to_the_gradient(make_model):
    model = make_model()
    padded = torch.cat([torch.full((2, 3), 5), IDS, torch.full((2, 2), 6)], 1)
    mask = torch.zeros_like(padded)
    mask[:, 3:-2] = 1
    gradients = []
    for inputs in (
        {"input_ids": padded, "attention_mask": mask, "labels": padded.masked_fill(mask == 0, -100)},
        {"input_ids": IDS, "labels": IDS.masked_fill(torch.arange(11) == 0, -100)},
    ):
        model.zero_grad()
        # A first token is predicted by the padding in front of it, or by nothing.
        inputs["labels"][:, 3 if "attention_mask" in inputs else 0] = -100
        model(**inputs).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, expected in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], expected, rtol=1e-4, atol=1e-6)

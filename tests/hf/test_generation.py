"""generate(): upstream's continuations, our own token by token, beams, padding, caches."""

from __future__ import annotations

import itertools

import pytest
import torch
import transformers
from packaging.version import Version

from loihi_mmfree.hf import RecurrentCache
from loihi_mmfree.model.ternary import BitLinear

GREEDY = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
takes_a_cache = pytest.mark.skipif(
    Version(transformers.__version__) < Version("4.55"), reason="generate() takes caches of its own kinds only"
)
PROMPT = torch.tensor([[1, 5, 3, 12, 7]])


def own_greedy(model, ids, count):
    """What the float reference continues with, read token by token from a state of its own."""
    with torch.no_grad():
        state, found = None, []
        for token in ids[0]:
            logits, state = model(token.view(1, 1), state)
        for _ in range(count):
            found.append(logits[0, -1].argmax().item())
            logits, state = model(torch.tensor([[found[-1]]]), state)
    return found


def test_the_greedy_continuation_is_upstreams(loaded):
    """Of prompt a; the others meet near-ties, where upstream's own implementations part too."""
    ids = loaded.ids("a")
    found = loaded.model.generate(ids, max_new_tokens=48, **GREEDY)
    assert found[0, ids.shape[1] :].tolist() == loaded.golden["a/greedy48"].tolist()


@pytest.mark.parametrize("prompt", ["b", "c"])
def test_the_greedy_continuation_is_our_own_token_by_token(loaded, prompt):
    ids = loaded.ids(prompt)
    found = loaded.model.generate(ids, max_new_tokens=16, **GREEDY)
    assert found[0, ids.shape[1] :].tolist() == own_greedy(loaded.own, ids, 16)


def test_generation_ends_at_the_end_token_of_the_configuration(make_model):
    free = make_model().generate(PROMPT, max_new_tokens=6, do_sample=False)[0].tolist()
    end = free[7]
    model = make_model(eos_token_id=end, pad_token_id=0)
    expected = free[: free.index(end, 5) + 1]
    assert model.generate(PROMPT, max_new_tokens=6, do_sample=False)[0].tolist() == expected


def test_a_padded_batch_continues_as_each_text_does_alone(loaded):
    texts = [loaded.ids("a"), loaded.ids("b")[:, :11], loaded.ids("c")[:, :1]]
    longest = texts[0].shape[1]
    ids = torch.cat([torch.nn.functional.pad(text, (longest - text.shape[1], 0)) for text in texts])
    mask = torch.cat(
        [torch.nn.functional.pad(torch.ones_like(text), (longest - text.shape[1], 0)) for text in texts]
    )
    found = loaded.model.generate(ids, attention_mask=mask, max_new_tokens=16, **GREEDY)[:, longest:]
    alone = [loaded.model.generate(text, max_new_tokens=16, **GREEDY)[0, text.shape[1] :] for text in texts]
    assert torch.equal(found, torch.stack(alone))


def test_beams_enough_for_all_continuations_find_the_likeliest(make_model):
    """Of the 13^3 continuations, each rated by the whole text at once, without a cache."""
    model = make_model()
    continuations = torch.tensor(list(itertools.product(range(13), repeat=3)))
    texts = torch.cat([PROMPT.expand(len(continuations), -1), continuations], 1)
    with torch.no_grad():
        predicted = model(texts).logits[:, 4:-1].log_softmax(-1)
    rated = predicted.gather(2, continuations[..., None]).sum((1, 2))
    found = model.generate(PROMPT, max_new_tokens=3, num_beams=13**2, **GREEDY)
    assert found[0, 5:].tolist() == continuations[rated.argmax()].tolist()


@pytest.mark.parametrize("beams", [2, 5])
def test_beam_search_with_a_cache_finds_what_it_finds_without(tiny, beams):
    ids = torch.cat([tiny.ids("a")[:, :20], tiny.ids("b")[:, :20]])
    asked = {"max_new_tokens": 12, "num_beams": beams, "num_return_sequences": 2, **GREEDY}
    found = [tiny.model.generate(ids, use_cache=use_cache, **asked) for use_cache in (True, False)]
    assert torch.equal(*found)


def test_sampling_with_a_cache_draws_what_it_draws_without(tiny):
    found = []
    for use_cache in (True, False):
        torch.manual_seed(5)
        asked = {"max_new_tokens": 12, "do_sample": True, "num_return_sequences": 3, "pad_token_id": 0}
        found.append(tiny.model.generate(tiny.ids("a"), use_cache=use_cache, **asked))
    assert torch.equal(*found)


@takes_a_cache
def test_a_cache_carries_on_where_an_earlier_call_ended(tiny):
    ids = tiny.ids("a")
    once = tiny.model.generate(ids, max_new_tokens=16, **GREEDY)
    first = tiny.model.generate(ids, max_new_tokens=8, return_dict_in_generate=True, **GREEDY)
    second = tiny.model.generate(
        first.sequences, past_key_values=first.past_key_values, max_new_tokens=8, **GREEDY
    )
    assert torch.equal(second, once)


@takes_a_cache
def test_a_cache_is_as_large_after_a_long_text_as_after_a_short_one(make_model):
    model = make_model(expand_ratio=2)
    shapes = []
    for count in (1, 60):
        cache = RecurrentCache()
        model.generate(PROMPT, past_key_values=cache, max_new_tokens=count, **GREEDY)
        shapes.append([tuple(state.shape) for state in cache.state])
    assert shapes[0] == shapes[1] == [(1, 32)] * 3


def test_generation_leaves_no_weight_frozen(make_model):
    model = make_model()
    model.generate(PROMPT, max_new_tokens=2, **GREEDY)
    assert all(module.frozen_codes is None for module in model.modules() if isinstance(module, BitLinear))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_continues_as_the_processor_does(tiny):
    expected = tiny.model.generate(tiny.ids("a"), max_new_tokens=48, **GREEDY)
    try:
        found = tiny.model.cuda().generate(tiny.ids("a").cuda(), max_new_tokens=48, **GREEDY)
    finally:
        tiny.model.cpu()
    assert torch.equal(found.cpu(), expected)

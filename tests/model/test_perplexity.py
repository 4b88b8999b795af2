from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from loihi_mmfree.errors import UsageError
from loihi_mmfree.model.language_model import logits_function
from loihi_mmfree.model.perplexity import perplexity, text_windows, token_losses

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("LOIHI_MMFREE_SHARED", ROOT.parent / "shared"))
WIKITEXT = SHARED / "data" / "wikitext-2" / "test.txt"
needs_wikitext = pytest.mark.skipif(
    not WIKITEXT.is_file(), reason="WikiText-2 is not here: set LOIHI_MMFREE_SHARED"
)


def knows_the_next(ids):
    """Logits that put probability 1/4 on the right successor in a text that counts up modulo 8."""
    return np.log(np.where(np.arange(8) == (ids[:, None] + 1) % 8, 1 / 4, 3 / 28))


COUNTING = np.arange(40) % 8


def test_a_model_that_knows_nothing_has_the_vocabulary_as_its_perplexity():
    assert perplexity(lambda ids: np.zeros((len(ids), 8)), COUNTING, window=10) == pytest.approx(8)


def test_a_model_that_gives_a_quarter_to_every_token_has_perplexity_four():
    assert perplexity(knows_the_next, COUNTING, window=10) == pytest.approx(4)


def test_shifted_logits_change_nothing_however_large():
    assert perplexity(lambda ids: knows_the_next(ids) + 1e4, COUNTING, window=10) == pytest.approx(4)


def test_each_window_starts_anew_and_a_remainder_is_left_out():
    seen = []
    perplexity(lambda ids: seen.append(ids.tolist()) or np.zeros((len(ids), 8)), [0, 1, 2, 3, 4, 5, 6], window=3)
    assert seen == [[0, 1, 2], [3, 4, 5]]


def test_a_text_shorter_than_a_window_is_used_whole():
    seen = []
    perplexity(lambda ids: seen.append(ids.tolist()) or np.zeros((len(ids), 8)), [0, 1, 2], window=512)
    assert seen == [[0, 1, 2]]


def test_no_more_windows_than_asked_for():
    seen = []
    perplexity(lambda ids: seen.append(len(ids)) or np.zeros((len(ids), 8)), COUNTING, window=10, windows=3)
    assert seen == [10, 10, 10]


def test_a_token_is_predicted_inside_its_window_only():
    """The token after a window is surprising; it must not count."""
    assert perplexity(knows_the_next, [0, 1, 2, 7, 0, 1], window=3) == pytest.approx(4)


@pytest.mark.parametrize(
    ("ids", "window", "windows"), [([], 512, 64), ([1], 512, 64), ([1, 2], 1, 64), ([1, 2], 2, 0)]
)
def test_nothing_to_predict_is_an_error(ids, window, windows):
    with pytest.raises(UsageError, match="perplexity needs a text and windows of 2 tokens or more"):
        perplexity(lambda ids: np.zeros((len(ids), 8)), ids, window, windows)


def test_it_needs_numpy_only():
    script = "import sys, loihi_mmfree.model.perplexity; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_golden_logits_and_the_models_own_give_the_same_perplexity(reference):
    ids, expected = reference.golden["b/input_ids"], reference.golden["b/logits"]
    own = perplexity(logits_function(reference.model), ids)
    assert own == pytest.approx(perplexity(lambda _: expected, ids), rel=3e-3)


@needs_wikitext
def test_perplexity_on_wikitext_2_is_upstreams(tiny_reference):
    """The first 64 windows of 512, all at once for speed."""
    tokenizer = Tokenizer.from_file(str(tiny_reference.tokenizer_path))
    text = WIKITEXT.read_text(encoding="utf-8")[:200_000].replace("<unk>", "unk")
    ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids)
    losses = []
    for windows in np.split(np.stack(list(text_windows(ids))), 4):
        with torch.no_grad():
            logits, _ = tiny_reference.model(torch.from_numpy(windows))
        losses += [token_losses(*pair) for pair in zip(logits[:, :-1].numpy(), windows[:, 1:], strict=True)]
    listed = tiny_reference.golden["wikitext2_test/ppl_ctx512_first64"].item()
    assert np.shape(losses) == (64, 511)
    assert np.exp(np.mean(losses)) == pytest.approx(listed, rel=3e-3)

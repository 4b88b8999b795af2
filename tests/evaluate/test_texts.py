"""How a text is cut into windows."""

from __future__ import annotations

import pytest

from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.texts import Windows, tokens_sha256


def windows(tokens: int, *settings: int | None) -> list[tuple[list[int], list[int]]]:
    """What each window reads, and which of it is predicted, of a text that counts."""
    items = Windows(*settings).cut(range(tokens))
    texts = [item.texts[0] for item in items]
    return [(text.ids.tolist(), text.ids[text.first :].tolist()) for text in texts]


def test_windows_follow_each_other_and_predict_all_but_their_first_token():
    assert windows(7, 3) == [([0, 1, 2], [1, 2]), ([3, 4, 5], [4, 5])]


def test_with_a_stride_a_window_predicts_what_lies_behind_the_one_before():
    assert windows(8, 4, 2) == [([0, 1, 2, 3], [1, 2, 3]), ([2, 3, 4, 5], [4, 5]), ([4, 5, 6, 7], [6, 7])]


@pytest.mark.parametrize("stride", range(1, 6))
def test_no_token_is_predicted_twice_whatever_the_stride(stride):
    predicted = [token for _, tokens in windows(23, 6, stride) for token in tokens]
    assert predicted == sorted(set(predicted))


def test_a_stride_of_one_less_than_the_window_predicts_every_token_but_the_first():
    assert [token for _, tokens in windows(13, 5, 4) for token in tokens] == list(range(1, 13))


def test_a_text_shorter_than_a_window_is_one_window():
    assert windows(3, 512) == [([0, 1, 2], [1, 2])]


def test_a_limit_takes_the_first_windows():
    assert windows(9, 3, 3, 2) == windows(6, 3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((1,), "`window=1`: at least 2"),
        ((8, 0), "`stride=0`: must be 1 to the window, 8"),
        ((8, 9), "`stride=9`"),
        ((8, 8, 0), "`limit=0`: at least 1"),
    ],
)
def test_numbers_that_no_text_can_be_cut_by_are_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        Windows(*settings)


@pytest.mark.parametrize("tokens", [0, 1])
def test_a_text_with_nothing_to_predict_is_refused(tokens):
    with pytest.raises(UsageError, match=f"the text has {tokens} tokens"):
        Windows().cut(range(tokens))


def test_the_hash_tells_other_tokens_and_other_predictions_apart():
    cuts = [Windows(4, 4).cut(range(8)), Windows(4, 4).cut(range(1, 9)), Windows(4, 2).cut(range(8))]
    cuts.append(Windows(2, 2).cut(range(8)))
    assert len({tokens_sha256(each) for each in cuts}) == len(cuts)

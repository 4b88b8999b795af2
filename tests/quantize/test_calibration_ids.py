from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer

from loihi_mmfree.errors import CheckpointError, UsageError
from loihi_mmfree.quantize.calibration_ids import calibration_ids


def test_the_default_is_sixteen_windows_of_the_built_in_text(tiny):
    found = calibration_ids(tiny.tokenizer_path, 512)
    assert found.ids.shape == (16, 256)
    assert found.source == "built-in text"
    assert found.warning is None
    tokenizer = Tokenizer.from_file(str(tiny.tokenizer_path))
    assert "Sir Walter Elliot" in tokenizer.decode(found.ids[0].tolist())


def test_windows_spread_over_the_whole_text(tiny):
    tokenizer = Tokenizer.from_file(str(tiny.tokenizer_path))
    text = " ".join(str(number) for number in range(3000))
    first, *_, last = calibration_ids(tiny.tokenizer_path, 512, 1024, text=text).ids
    assert tokenizer.decode(first.tolist()).startswith("0 1 2 3")
    assert tokenizer.decode(last.tolist()).endswith("2998 2999")


def test_a_short_text_gives_one_short_window(tiny):
    found = calibration_ids(tiny.tokenizer_path, 512, text="A short text.")
    assert found.ids.shape[0] == 1
    assert 0 < found.ids.shape[1] < 16
    assert found.source == "given text"


def test_fewer_tokens_than_a_window_may_be_asked_for(tiny):
    assert calibration_ids(tiny.tokenizer_path, 512, tokens=100).ids.shape == (1, 100)


def test_without_a_tokenizer_the_ids_are_random_the_same_every_time_and_the_caller_is_told():
    found = calibration_ids(None, 1000)
    assert found.ids.shape == (16, 256)
    assert found.ids.min() >= 0
    assert 900 < found.ids.max() < 1000
    assert np.array_equal(found.ids, calibration_ids(None, 1000).ids)
    assert "random" in found.source
    assert found.warning is not None
    assert "no tokenizer.json" in found.warning


def test_a_text_without_a_tokenizer_is_refused():
    with pytest.raises(UsageError, match=r"no tokenizer\.json to read the text with"):
        calibration_ids(None, 512, text="A text.")


def test_an_empty_text_is_refused(tiny):
    with pytest.raises(UsageError, match="the text is empty"):
        calibration_ids(tiny.tokenizer_path, 512, text="")


def test_a_tokenizer_of_another_model_is_refused(tiny):
    with pytest.raises(UsageError, match=r"use the tokenizer of this checkpoint"):
        calibration_ids(tiny.tokenizer_path, 100)


def test_a_damaged_tokenizer_is_refused_by_its_path(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        calibration_ids(tmp_path / "tokenizer.json", 512)


def test_at_least_one_token_must_be_asked_for(tiny):
    with pytest.raises(UsageError, match="at least one token is needed, found 0"):
        calibration_ids(tiny.tokenizer_path, 512, tokens=0)

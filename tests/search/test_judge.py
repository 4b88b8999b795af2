"""What is judged is the network that is compiled, on a text that it was not calibrated on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import loihi_mmfree
from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.texts import Windows
from loihi_mmfree.loihi2.hardware import LOIHI2
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.quantize.calibration import observe
from loihi_mmfree.quantize.calibration_ids import calibration_ids
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.search.judge import Judge
from loihi_mmfree.sim.session.opening import Choice
from loihi_mmfree.text import Tokenizer

PROSE = "It was a dark night, and the rain fell on the roofs of the town, where nobody slept but the cat. "


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(PROSE * 24)
    return path


def test_a_verdict_is_what_an_evaluation_of_the_compiled_network_finds(
    tiny_net: Net, tiny_checkpoint: Path, text: Path
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint)
    ids = calibration_ids(checkpoint.tokenizer_path, checkpoint.config.vocab_size).ids
    observed = observe(checkpoint, ids, QuantizationConfig())
    items = Windows(limit=2).cut(
        Tokenizer(checkpoint.tokenizer_path).encode(text.read_text(), special_tokens=False)
    )
    judge = Judge(checkpoint, observed, LOIHI2, items, Choice("engine"), lambda *_: None)
    found = judge.judge(observed.bits)
    expected = loihi_mmfree.evaluate(tiny_net, text=text, checkpoint=tiny_checkpoint, limit=2, device="cpu")
    assert expected is not None
    document = expected.to_dict()["paired"]
    assert found.relative == pytest.approx(document["relative"], rel=1e-9)
    assert found.interval == pytest.approx(document["relative_interval"], rel=1e-9)
    assert found.top1_agreement == document["top1_agreement"]
    # A second one, whose codes are kept from the first.
    assert judge.judge(observed.bits) == found
    wider = {site: 16 if site.endswith("input") else bits for site, bits in observed.bits.items()}
    assert judge.judge(wider) != found


def test_what_is_calibrated_on_and_what_is_judged_on_are_the_text_between_them(tiny_checkpoint: Path) -> None:
    path = open_checkpoint(tiny_checkpoint).tokenizer_path
    found = calibration_ids(path, 512, 1024, PROSE * 50)
    assert len(found.ids) == 4
    behind = (*found.between, np.array([], dtype=np.int64))
    pieces = [piece for pair in zip(found.ids, behind, strict=True) for piece in pair]
    assert np.concatenate(pieces).tolist() == Tokenizer(path).encode(PROSE * 50)


def test_ids_alone_leave_nothing_to_judge_on(tiny_checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="give a `budget_text`"):
        loihi_mmfree.narrow(tiny_checkpoint, 0.01, calibration=[1, 2, 3])

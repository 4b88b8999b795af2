"""The learning rate of every step, and which parameters decay."""

from __future__ import annotations

import pytest
import torch

from loihi_mmfree.train.language_model import float_learner
from loihi_mmfree.train.optimizer import learning_rate, make_optimizer
from loihi_mmfree.train.recipe import Recipe
from loihi_mmfree.train.settings import OptimizerSettings


def test_the_rate_rises_in_a_line_and_falls_as_torchs_cosine() -> None:
    settings = OptimizerSettings(learning_rate=0.4, warmup=0.1, final=0.25)
    found = [learning_rate(settings, step, 50) for step in range(50)]
    assert found[:5] == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4])
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=45, eta_min=0.1)
    for rate in found[5:]:
        assert rate == pytest.approx(cosine.get_last_lr()[0])
        optimizer.step()
        cosine.step()


def test_without_warmup_the_first_step_has_the_peak() -> None:
    assert learning_rate(OptimizerSettings(learning_rate=0.4, warmup=0.0), 0, 10) == 0.4


@pytest.mark.parametrize("tied", [False, True])
def test_ternary_matrices_decay_and_nothing_else(tied: bool) -> None:
    model = {"vocab_size": 13, "hidden_size": 8, "num_hidden_layers": 2, "tie_word_embeddings": tied}
    learner = float_learner(Recipe.from_mapping({"model": model}).model, seed=0)
    optimizer = make_optimizer(learner.module, learner.matrices, OptimizerSettings(weight_decay=0.5))
    names = {id(each): name for name, each in learner.module.named_parameters()}
    decay = {
        names[id(each)]: group["weight_decay"] for group in optimizer.param_groups for each in group["params"]
    }
    assert decay.keys() == dict(learner.module.named_parameters()).keys()
    decayed = {name for name, share in decay.items() if share}
    expected = {name for name in decay if name.endswith("_proj.weight")} | {"model.lm_head.weight"}
    assert decayed == (expected - {"model.lm_head.weight"} if tied else expected)
    assert len(decayed) == 12 + (not tied)

"""AdamW with the usual exemptions from weight decay, and the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from loihi_mmfree.train.settings import OptimizerSettings

if TYPE_CHECKING:
    import torch
    from torch import nn


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Return the rate of a step, counted from 0: up in a line, then down along half a cosine.

    Parameters
    ----------
    settings : OptimizerSettings
    step, steps : int
        The present one and all.
    """
    rising = round(settings.warmup * steps)
    if step < rising:
        return settings.learning_rate * (step + 1) / rising
    share = (step - rising) / max(1, steps - rising)
    lowest = settings.learning_rate * settings.final
    return lowest + (settings.learning_rate - lowest) * (1 + math.cos(math.pi * share)) / 2


def make_optimizer(
    module: nn.Module, matrices: Iterable[nn.Parameter], settings: OptimizerSettings
) -> torch.optim.AdamW:
    """Return the optimizer of a module; `share` in a group is its part of the learning rate.

    Parameters
    ----------
    module : nn.Module
    matrices : iterable of Parameter
        Ternary matrices: they decay, and have a rate of their own.
    settings : OptimizerSettings
    """
    import torch

    among = {id(each) for each in matrices}
    parameters = [each for each in module.parameters() if each.requires_grad]
    groups = [
        {
            "params": [each for each in parameters if id(each) in among],
            "weight_decay": settings.weight_decay,
            "share": settings.matrices,
        },
        {
            "params": [each for each in parameters if id(each) not in among],
            "weight_decay": 0.0,
            "share": 1.0,
        },
    ]
    return torch.optim.AdamW(groups, settings.learning_rate, (settings.beta1, settings.beta2), settings.epsilon)

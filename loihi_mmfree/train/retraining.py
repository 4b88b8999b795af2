"""A checkpoint trained for the formats of a chip: quantizers at all sites, and the float model as its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor, nn

from loihi_mmfree.checkpoint import Checkpoint, open_checkpoint
from loihi_mmfree.compiler.exact.model import ExactModel
from loihi_mmfree.model.language_model import MatMulFreeLM
from loihi_mmfree.model.recurrence import recurrence
from loihi_mmfree.quantize.blocks import (
    QuantizedModel,
    QuantizedTokenMixer,
    TernaryProjection,
    load_model,
    quantizers,
    set_formats,
)
from loihi_mmfree.quantize.calibration import calibrate
from loihi_mmfree.quantize.config import INPUT, QuantizationConfig
from loihi_mmfree.quantize.formats_file import FORMATS, TrainedFormats
from loihi_mmfree.train.language_model import write_model
from loihi_mmfree.train.loop import Learner
from loihi_mmfree.train.recipe import Recipe
from loihi_mmfree.train.tokens import TokenWindows

_FRONT = "student."
_HEAD, _NORM = "head.lm_head.", "head.norm."


class Distillation(nn.Module):
    """The loss of a quantized model over windows: its divergence from the float model, and that of the text.

    Parameters
    ----------
    student : QuantizedModel
    teacher : MatMulFreeLM
        Frozen; no part of what is trained.
    share : float
        Share of the divergence in the loss; the rest is the loss of the next token.
    exact : bool
        Compute with the integers of the compiled network.
    """

    def __init__(self, student: QuantizedModel, teacher: MatMulFreeLM, share: float, exact: bool) -> None:
        super().__init__()
        self.student, self.share, self.exact = student, share, exact
        # In a list, so that it is no module of this one.
        self._teacher = [teacher]

    def forward(self, ids: Tensor) -> Tensor:
        """Return the loss [] of windows [B, T], in nats a token."""
        logits = ExactModel(self.student)(ids) if self.exact else self.student(ids)
        loss = torch.zeros((), dtype=logits.dtype, device=logits.device)
        if self.share < 1:
            loss = loss + (1 - self.share) * next_token_loss(logits, ids)
        if self.share > 0:
            loss = loss + self.share * self._divergence(logits, ids)
        return loss

    def _divergence(self, logits: Tensor, ids: Tensor) -> Tensor:
        """KL of the float model's predictions from those of the quantized one, the mean over tokens."""
        with torch.no_grad():
            teacher = self._teacher[0].to(ids.device)
            expected = teacher(ids)[0].to(logits.dtype).log_softmax(-1)
        found = logits.log_softmax(-1)
        return F.kl_div(found.flatten(0, 1), expected.flatten(0, 1), reduction="batchmean", log_target=True)


def next_token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Return the mean loss [] of the next token, for logits [B, T, V] and windows [B, T]."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def choose_formats(
    base: Checkpoint, recipe: Recipe, quantization: QuantizationConfig, windows: TokenWindows
) -> TrainedFormats:
    """Return the formats that a calibration on the first windows chooses, or those that `base` was trained for."""
    trained = TrainedFormats.beside(base.folder)
    if trained is not None and trained.config == quantization:
        return trained
    count = max(1, recipe.retraining.calibration_tokens // recipe.window)
    ids = np.concatenate([windows.batch(step) for step in range(-(-count // recipe.batch))])[:count]
    found = calibrate(base, ids, quantization)
    return TrainedFormats(quantization, found.formats, found.thresholds)


def quantized_learner(base: Checkpoint, recipe: Recipe, formats: TrainedFormats) -> Learner:
    """Return the quantized model of a checkpoint, with the formats it begins with, and its teacher."""
    settings = recipe.retraining
    model = load_model(base, formats.config)
    set_formats(model, formats.formats, formats.thresholds)
    for quantizer in quantizers(model):
        learned = settings.scales == "learned" and quantizer.site.endswith(INPUT)
        quantizer.scaling.value.requires_grad_(learned)
    for part in model.modules():
        if isinstance(part, QuantizedTokenMixer):
            part.recurrence = recurrence
    weights = (each.weight for each in model.modules() if isinstance(each, TernaryProjection))
    matrices = tuple(each for each in weights if each is not model.embeddings.weight)
    teacher = MatMulFreeLM.from_checkpoint(base)
    module = Distillation(model, teacher, settings.distillation, settings.arithmetic == "exact")

    def write(folder: Path, state: Mapping[str, Tensor]) -> None:
        trained = QuantizedModel(base.config, formats.config)
        trained.load_state_dict({name.removeprefix(_FRONT): value for name, value in state.items()})
        named = {_upstream_name(name): each for name, each in trained.named_parameters() if "_quant." not in name}
        write_model(folder, base.config, {name: each.detach() for name, each in named.items()})
        found = {each.site: each.scaling.qformat() for each in quantizers(trained)}
        kept = TrainedFormats(formats.config, found, formats.thresholds)
        (folder / FORMATS).write_text(kept.to_json(), encoding="utf-8")

    return Learner(module, matrices, write)


def exact_loss(folder: Path, ids: Tensor, at_once: int) -> float:
    """Return the loss of a folder that was written, as its compiled integers have it.

    Parameters
    ----------
    folder : Path
    ids : Tensor of int [B, T]
        Windows, on the device to compute on.
    at_once : int
        How many of them are computed at once.
    """
    checkpoint, formats = open_checkpoint(folder), TrainedFormats.read(folder / FORMATS)
    model = load_model(checkpoint, formats.config)
    set_formats(model, formats.formats, formats.thresholds)
    exact = ExactModel(model).eval().to(ids.device)
    with torch.no_grad():
        losses = [next_token_loss(exact(part), part) * len(part) for part in ids.split(at_once)]
    return float(torch.stack(losses).sum() / len(ids))


def _upstream_name(name: str) -> str:
    """The name that a parameter of the quantized model has upstream."""
    if name.startswith(_HEAD):
        return f"lm_head.{name.removeprefix(_HEAD)}"
    return f"model.norm.{name.removeprefix(_NORM)}" if name.startswith(_NORM) else f"model.{name}"

"""A checkpoint trained for the formats of a chip: what was trained is what the compiled integers compute."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import loihi_mmfree
from loihi_mmfree.checkpoint import Checkpoint, open_checkpoint
from loihi_mmfree.compiler.trained import with_trained_formats
from loihi_mmfree.errors import CheckpointError, UsageError
from loihi_mmfree.fixedpoint.qformat import QFormat
from loihi_mmfree.model.language_model import MatMulFreeLM
from loihi_mmfree.model.perplexity import token_losses
from loihi_mmfree.quantize.blocks import load_model, set_formats
from loihi_mmfree.quantize.calibration import calibrate
from loihi_mmfree.quantize.config import QuantizationConfig
from loihi_mmfree.quantize.formats_file import FORMATS, TrainedFormats
from loihi_mmfree.sim.engine.specification import Engine
from loihi_mmfree.train.recipe import Recipe
from loihi_mmfree.train.retraining import Distillation, quantized_learner
from loihi_mmfree.train.training import Training

SHORT: Mapping[str, Any] = {"steps": 3, "batch": 2, "window": 16}


def retrain(base: Path, output: Path, text: Path, quantize: str = "a6", **settings: Any) -> Training:
    values = {**SHORT, **settings}
    found = loihi_mmfree.train(output, values, text=text, base=base, quantize=quantize, device="cpu")
    assert found is not None
    return found


def windows_of(folder: Path, text: Path, step: int) -> np.ndarray:
    """What a step of `SHORT` reads, by the rule of docs/training.md."""
    tokens = np.array([*loihi_mmfree.Tokenizer(folder / "tokenizer.json").encode(text.read_text()), 2])
    every = tokens[: len(tokens) // 16 * 16].reshape(-1, 16)
    order = np.random.default_rng([0, 0]).permutation(len(every))
    return every[order[2 * step : 2 * step + 2]]


def loss_of_integers(net: loihi_mmfree.Net, windows: np.ndarray) -> float:
    """The loss that a network's specification has."""
    losses = []
    for window in windows:
        logits = Engine(net.graph, strict=True).process(window) * net.manifest["logit_scale"]
        losses.append(token_losses(logits[:-1], window[1:]).mean())
    return float(np.mean(losses))


@pytest.fixture(scope="session")
def retrained(uninterrupted: Training, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Trained for 6 bits with the default settings. Read it only."""
    return retrain(uninterrupted.path, tmp_path_factory.mktemp("retrained") / "checkpoint", text)


@pytest.fixture(scope="session")
def compiled(
    retrained: Training, tmp_path_factory: pytest.TempPathFactory
) -> tuple[loihi_mmfree.Net, tuple[str, ...]]:
    """Its network, and the stages of the compilation."""
    stages: list[str] = []
    net = loihi_mmfree.compile(
        retrained.path,
        tmp_path_factory.mktemp("compiled") / "net",
        progress=lambda stage, done, total: stages.append(stage),
    )
    return net, tuple(stages)


def test_the_exact_loss_is_that_of_the_compiled_integers(
    retrained: Training, compiled: tuple[loihi_mmfree.Net, tuple[str, ...]], text: Path
) -> None:
    expected = loss_of_integers(compiled[0], windows_of(retrained.path, text, step=2))
    assert retrained.exact_loss == pytest.approx(expected, rel=1e-12)


def test_it_is_so_with_learned_formats_and_exact_arithmetic(
    uninterrupted: Training, retrained: Training, text: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "retraining": {"scales": "learned", "arithmetic": "exact", "distillation": 0.5},
        "optimizer": {"learning_rate": 0.5},
    }
    found = retrain(uninterrupted.path, tmp_path / "checkpoint", text, **settings)
    one, other = (TrainedFormats.read(each.path / FORMATS).formats for each in (retrained, found))
    moved = {site for site in one if one[site] != other[site]}
    assert moved
    assert all(site.endswith(".input") for site in moved)
    net = loihi_mmfree.compile(found.path, tmp_path / "net")
    expected = loss_of_integers(net, windows_of(found.path, text, step=2))
    assert found.exact_loss == pytest.approx(expected, rel=1e-12)


def test_steps_in_exact_arithmetic_have_the_loss_of_the_compiled_integers(
    retrained: Training, compiled: tuple[loihi_mmfree.Net, tuple[str, ...]], text: Path, tmp_path: Path
) -> None:
    """It goes on with the formats that its base was trained for."""
    exact = {"retraining": {"arithmetic": "exact", "distillation": 0.0}}
    found = retrain(retrained.path, tmp_path / "checkpoint", text, steps=1, **exact)
    expected = loss_of_integers(compiled[0], windows_of(retrained.path, text, step=0))
    assert found.records[0].loss == pytest.approx(expected, rel=1e-6)


def test_compile_takes_its_formats_and_calibrates_nothing(
    retrained: Training, compiled: tuple[loihi_mmfree.Net, tuple[str, ...]]
) -> None:
    net, stages = compiled
    assert "passes" in stages
    assert "calibrate" not in stages
    assert net.manifest["formats"] == json.loads((retrained.path / FORMATS).read_text())["formats"]
    assert net.manifest["config"]["quantization"]["activation_bits"] == 6
    assert net.manifest["formats"]["lm_head.input"][0] == 6


def test_compile_refuses_other_formats_than_those_trained_for(retrained: Training, tmp_path: Path) -> None:
    same = loihi_mmfree.CompileConfig(quantization=QuantizationConfig(activation_bits=6))
    assert with_trained_formats(same, open_checkpoint(retrained.path), False)[0] == same
    with pytest.raises(UsageError, match=r"was trained for the formats in trained_formats\.json"):
        loihi_mmfree.compile(retrained.path, tmp_path / "net", loihi_mmfree.CompileConfig.preset("a16"))
    with pytest.raises(UsageError, match=r"was trained for the formats in trained_formats\.json"):
        loihi_mmfree.compile(retrained.path, tmp_path / "net", calibration=[1, 2, 3])


@pytest.mark.parametrize(
    "harm",
    [
        lambda values: values.pop("formats"),
        lambda values: values["formats"].update({"lm_head.input": [6, 2.5]}),
        lambda values: values["formats"].update({"lm_head.input": [6, 1000]}),
        lambda values: values["formats"].update({"lm_head.input": "6"}),
        lambda values: values["quantization"].update({"bits": 3}),
        lambda values: values["thresholds"].update({"lm_head.input": -1}),
    ],
)
def test_a_damaged_file_of_formats_is_refused(tmp_path: Path, harm: Callable[[Any], Any]) -> None:
    kept = TrainedFormats(QuantizationConfig(), {"lm_head.input": QFormat(12, 8)}, {"lm_head.input": 3})
    values = json.loads(kept.to_json())
    assert TrainedFormats.read(written(tmp_path, values)) == kept
    harm(values)
    with pytest.raises(CheckpointError, match="no formats as training writes them"):
        TrainedFormats.read(written(tmp_path, values))


def written(folder: Path, values: Any) -> Path:
    path = folder / FORMATS
    path.write_text(json.dumps(values))
    return path


def test_an_interrupted_one_goes_on_as_if_it_had_not_been(
    uninterrupted: Training, retrained: Training, text: Path, tmp_path: Path
) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "train" and done == 2:
            signal.raise_signal(signal.SIGINT)

    options: dict[str, Any] = {"base": uninterrupted.path, "quantize": "a6", "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        loihi_mmfree.train(tmp_path / "again", SHORT, text=text, progress=interrupt, on_notice=print, **options)
    with pytest.raises(UsageError, match=r"quantization\.activation_bits is 6, not 8"):
        loihi_mmfree.train(tmp_path / "again", SHORT, resume=True, **{**options, "quantize": "a8"})
    again = loihi_mmfree.train(tmp_path / "again", resume=True, device="cpu")
    assert again is not None
    assert (again.records, again.exact_loss) == (retrained.records, retrained.exact_loss)
    for path in retrained.path.iterdir():
        assert (again.path / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    "changes", [{}, {"tie_word_embeddings": True}, {"use_lower_bound": False}, {"expand_ratio": 2}], ids=str
)
def test_weights_go_back_under_their_own_names(
    make_checkpoint: Callable[..., Checkpoint], changes: dict[str, Any], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    base, config = make_checkpoint(**changes), QuantizationConfig()
    calibration = calibrate(base, np.arange(64) % 32, config)
    formats = TrainedFormats(config, calibration.formats, calibration.thresholds)
    learner = quantized_learner(base, Recipe.for_checkpoint(base.config, {}, config), formats)
    shutil.copy(tiny_checkpoint / "tokenizer.json", tmp_path)
    learner.write(tmp_path, learner.module.state_dict())
    again = open_checkpoint(tmp_path)
    assert again.config == base.config
    for name in base.names():
        torch.testing.assert_close(again.tensor(name), base.tensor(name), rtol=0, atol=0)


def test_it_goes_on_from_a_checkpoint_in_float_too(uninterrupted: Training, text: Path, tmp_path: Path) -> None:
    found = loihi_mmfree.train(tmp_path / "more", SHORT, text=text, base=uninterrupted.path, device="cpu")
    assert found is not None
    assert found.records[0].loss < uninterrupted.records[5].loss
    assert found.exact_loss is None
    with pytest.raises(UsageError, match=r"another model: .*model\.hidden_size is 128, not 32"):
        loihi_mmfree.train(tmp_path / "other", {"shape": "tiny"}, text=text, base=uninterrupted.path)
    with pytest.raises(UsageError, match="quantization is for a checkpoint that is trained already"):
        loihi_mmfree.train(tmp_path / "other", {"shape": "tiny"}, text=text, quantize="a8")


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_loss_is_the_divergence_from_the_float_model_and_that_of_the_text(
    make_checkpoint: Callable[..., Checkpoint], share: float
) -> None:
    base, config = make_checkpoint(), QuantizationConfig(activation_bits=4)
    calibration = calibrate(base, np.arange(64) % 32, config)
    model = load_model(base, config)
    set_formats(model, calibration.formats)
    teacher = MatMulFreeLM.from_checkpoint(base)
    ids = torch.arange(12).reshape(2, 6) * 5 % 32
    with torch.no_grad():
        found = Distillation(model, teacher, share, exact=False)(ids).item()
        student = model(ids).double().log_softmax(-1).numpy()
        expected = teacher(ids)[0].double().log_softmax(-1).numpy()
    divergence = (np.exp(expected) * (expected - student)).sum(-1).mean()
    of_text = -np.take_along_axis(student[:, :-1], ids[:, 1:, None].numpy(), -1).mean()
    assert divergence > 0.01
    assert found == pytest.approx(share * divergence + (1 - share) * of_text, rel=1e-4)

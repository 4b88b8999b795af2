"""Checkpoints as trainers, wrappers and people leave them: the right tensors, and a notice of what was chosen."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.errors import CheckpointError

GAIN = "model.norm.weight"
PROJECTION = "model.layers.0.attn.i_proj.weight"


def assert_holds(checkpoint, state):
    """Every tensor comes back as the float32 value of what was stored."""
    assert sorted(checkpoint.names()) == sorted(state)
    for name, stored in state.items():
        assert torch.equal(checkpoint.tensor(name), stored.float())


def optimizer_state(state):
    """What AdamW keeps, after a step."""
    parameters = [torch.nn.Parameter(tensor.float()) for tensor in state.values()]
    optimizer = torch.optim.AdamW(parameters)
    torch.stack([parameter.sum() for parameter in parameters]).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize(
    ("wrap", "where"),
    [
        (lambda state: {"epoch": 3, "model_state_dict": state}, "'model_state_dict'; not used: 'epoch'"),
        (lambda state: {"model": state, "config": {"lr": 1e-3}}, "'model'; not used: 'config'"),
        (
            lambda state: {"run": {"best": {"weights": state}}, "step": torch.tensor(1)},
            "'run' > 'best' > 'weights'",
        ),
        (lambda state: {**state, "step": 7}, "at the top; not used: 'step'"),
        (lambda state: {"optimizer": optimizer_state(state), "net": OrderedDict(state)}, "'net'; not used: 'opt"),
        (
            lambda state: {"state_dict": state, "milestones": Counter([3, 3, 5]), "rng": b"\x00\xff"},
            "'state_dict'",
        ),
    ],
)
def test_the_model_within_the_state_of_a_training_run_is_found_and_said(folder, state, wrap, where):
    torch.save(wrap(state), folder / "run.ckpt")
    checkpoint = open_checkpoint(folder / "run.ckpt")
    assert_holds(checkpoint, state)
    assert any(where in notice for notice in checkpoint.notices)


def test_a_state_dict_of_parameters_with_metadata_is_read(folder, state):
    module = torch.nn.ParameterDict({name.replace(".", "/"): tensor for name, tensor in state.items()})
    saved = module.state_dict()
    assert hasattr(saved, "_metadata")
    renamed = OrderedDict((name.replace("/", "."), torch.nn.Parameter(saved[name])) for name in saved)
    renamed._metadata = saved._metadata
    torch.save(renamed, folder / "model.pt")
    assert_holds(open_checkpoint(folder / "model.pt"), state)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_pickle_that_torch_writes_is_read(folder, state, protocol):
    torch.save({"model": state, "step": 10**12, "rate": 0.5}, folder / "model.pt", pickle_protocol=protocol)
    assert_holds(open_checkpoint(folder / "model.pt"), state)


def test_tensors_that_are_views_of_others_are_read_as_such(folder, state):
    flat = torch.cat([tensor.reshape(-1) for tensor in state.values()])
    parts = flat.split([tensor.numel() for tensor in state.values()])
    views = {name: part.view(state[name].shape) for name, part in zip(state, parts, strict=True)}
    views[PROJECTION] = state[PROJECTION].t().contiguous().t()
    torch.save(views, folder / "model.pt")
    assert_holds(open_checkpoint(folder / "model.pt"), state)


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        (lambda name: name.replace(".attn.", "._orig_mod.attn."), "'_orig_mod'"),
        (lambda name: f"_orig_mod.module.{name}", "'module', '_orig_mod'"),
        (lambda name: name.replace(".mlp.", ".mlp._checkpoint_wrapped_module."), "'_checkpoint_wrapped_module'"),
        (lambda name: f"model.{name}", "'model'"),
        (lambda name: f"lit.net.{name}", "'lit.net'"),
    ],
)
@pytest.mark.parametrize("save", ["safetensors", "pytorch"])
def test_what_wrappers_leave_in_names_is_dropped_and_said(folder, state, rename, said, save):
    renamed = {rename(name): tensor for name, tensor in state.items()}
    if save == "safetensors":
        save_file(renamed, folder / "model.safetensors")
    else:
        torch.save(renamed, folder / "pytorch_model.bin")
    checkpoint = open_checkpoint(folder)
    assert_holds(checkpoint, state)
    assert checkpoint.notices == (f"wrappers left {said} in names of tensors; dropped",)


def test_buffers_that_enter_no_result_are_left_out_and_said(folder, state):
    extra = {"module.n_averaged": torch.tensor(5), "model.layers.0.attn.inv_freq": torch.zeros(4)}
    save_file(state | extra, folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    assert_holds(checkpoint, state)
    assert "buffers that enter no result are not read: 'model.layers.0.attn.inv_freq', 'n_averaged'" in (
        checkpoint.notices
    )


@pytest.mark.parametrize("name", ["weights.model", "checkpoint_last.th", "lightning.ckpt"])
@pytest.mark.parametrize("save", ["safetensors", "pytorch"])
def test_a_weight_file_of_another_suffix_is_told_by_its_content(folder, state, name, save):
    if save == "safetensors" and not name.endswith(".ckpt"):
        save_file(state, folder / name)
    else:
        torch.save(state, folder / name)
    assert_holds(open_checkpoint(folder / name), state)


def test_the_only_weight_file_of_a_folder_is_read_and_named(folder, state):
    torch.save(state, folder / "epoch3.ckpt")
    (folder / "training_args.bin").write_bytes(b"never opened")
    checkpoint = open_checkpoint(folder)
    assert_holds(checkpoint, state)
    assert "epoch3.ckpt" in checkpoint.notices[0]


def test_of_two_files_of_weights_the_one_read_and_the_one_left_are_named(folder, state):
    save_file(state, folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    assert open_checkpoint(folder).notices == (
        "the weights are those of model.safetensors; beside it and not read: pytorch_model.bin",
    )


def test_an_adapter_beside_the_weights_is_said_not_to_be_merged(folder, state):
    save_file(state, folder / "model.safetensors")
    save_file({"lora_A": torch.zeros(1)}, folder / "adapter_model.safetensors")
    (notice,) = open_checkpoint(folder).notices
    assert "the adapter beside the weights is not merged" in notice


def test_a_model_configuration_inside_goes_before_the_file_beside_and_is_said(folder, values, state):
    torch.save({"config": values | {"rms_norm_eps": 1e-3}, "model": state}, folder / "model.pt")
    checkpoint = open_checkpoint(folder / "model.pt")
    assert checkpoint.config.rms_norm_eps == 1e-3
    assert any(
        "the configuration is the one inside model.pt, not config.json" in each for each in checkpoint.notices
    )


def test_a_configuration_inside_that_is_shared_without_end_is_refused_at_once(tmp_path, values, state):
    shared: list[object] = []
    for _ in range(200):
        shared = [shared, shared]
    torch.save({"config": values | {"vocab_size": shared}, "model": state}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="vocab_size is '<list>'"):
        open_checkpoint(tmp_path / "model.pt")


def test_generation_config_says_what_ends_a_text_and_is_hashed(folder, values, state):
    save_file(state, folder / "model.safetensors")
    before = open_checkpoint(folder).sha256()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 5], "temperature": 0.7}))
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config.eos_token_id == (2, 5)
    assert checkpoint.notices == ("generation_config.json: text ends with (2, 5), where config.json has 2",)
    assert checkpoint.sha256() != before


def test_generation_config_that_says_the_same_changes_nothing(folder, state):
    save_file(state, folder / "model.safetensors")
    before = open_checkpoint(folder).sha256()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    assert open_checkpoint(folder).notices == ()
    assert open_checkpoint(folder).sha256() == before


def test_other_names_and_unknown_keys_of_the_configuration_are_said(folder, values, state):
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values | {"norm_eps": 1e-3, "wandb_run": "x"}))
    said = " ".join(open_checkpoint(folder).notices)
    assert "norm_eps is taken for rms_norm_eps" in said
    assert "unknown and not used: 'wandb_run'" in said


@pytest.mark.parametrize("save", ["safetensors", "pytorch"])
def test_double_precision_is_rounded_to_single_and_said(folder, state, save):
    state = {name: tensor.double() + 1e-12 for name, tensor in state.items()}
    if save == "safetensors":
        save_file(state, folder / "model.safetensors")
    else:
        torch.save(state, folder / "pytorch_model.bin")
    checkpoint = open_checkpoint(folder)
    assert_holds(checkpoint, state)
    assert checkpoint.notices == (f"{len(state)} tensors of float64 are rounded to float32",)


class TestTernaryAlready:
    """Weights stored as scale * {-1, 0, 1}."""

    @pytest.fixture
    def ternary(self, folder: Path, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        state[PROJECTION] = 0.75 * torch.tensor([[1.0, 0, 0, -1], [0, 0, 1, 0]]).repeat(4, 2)
        save_file(state, folder / "model.safetensors")
        return state

    def test_they_are_found_with_their_density(self, folder, ternary):
        assert open_checkpoint(folder).ternary_density() == {PROJECTION: 3 / 8}

    def test_they_are_given_as_stored_by_default(self, folder, ternary):
        assert_holds(open_checkpoint(folder), ternary)

    def test_keeping_the_stored_scale_makes_it_the_mean_magnitude(self, folder, ternary):
        tensor = open_checkpoint(folder, "stored").tensor(PROJECTION)
        assert tensor.abs().mean().item() == pytest.approx(0.75, rel=1e-7)
        assert torch.equal(tensor.sign(), ternary[PROJECTION].sign())

    def test_other_projections_are_given_as_stored(self, folder, ternary):
        other = PROJECTION.replace("i_proj", "f_proj")
        assert torch.equal(open_checkpoint(folder, "stored").tensor(other), ternary[other].float())

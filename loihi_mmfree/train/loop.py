"""The loop over steps, on one device or many: Accelerate moves, shares and casts; what a step is, is said here."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from loihi_mmfree.errors import TrainingError, UsageError
from loihi_mmfree.interrupts import ENDING, deferred
from loihi_mmfree.train.log import StepRecord
from loihi_mmfree.train.optimizer import learning_rate, make_optimizer
from loihi_mmfree.train.recipe import Recipe
from loihi_mmfree.train.state import Saved, save
from loihi_mmfree.train.tokens import TokenWindows

if TYPE_CHECKING:
    from accelerate import Accelerator

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of a parameter."""
LONGEST_WAIT_HOURS = 12
"""In which the first process reads the text, while the others wait."""


@dataclass(frozen=True)
class Learner:
    """What is trained.

    Parameters
    ----------
    module : nn.Module
        Maps ids [B, T] to the mean loss [], in nats a token.
    matrices : tuple of Parameter
        Those of its parameters that become ternary.
    write : callable
        Makes a folder of Hugging Face out of the module's state, in a folder that is there.
    """

    module: nn.Module
    matrices: tuple[nn.Parameter, ...]
    write: Callable[[Path, Mapping[str, Tensor]], None]


@contextlib.contextmanager
def accelerating(recipe: Recipe, device: str | None) -> Iterator[Accelerator]:
    """Give what runs a recipe on the devices of this process and of those that torchrun started with it.

    Raises
    ------
    UsageError
        The windows of a step cannot be shared by the processes.
    """
    from datetime import timedelta

    from accelerate import Accelerator, FullyShardedDataParallelPlugin, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState, GradientState, PartialState

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    PartialState(cpu=device == "cpu", timeout=timedelta(hours=LONGEST_WAIT_HOURS))
    processes = PartialState().num_processes
    plugin = None
    if recipe.parallel == "fsdp" and processes > 1:
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            # Whose parameters are gathered together.
            transformer_cls_names_to_wrap=["Block" if recipe.quantization is None else "QuantizedBlock"],
        )
    try:
        accelerator = Accelerator(
            cpu=device == "cpu",
            mixed_precision="bf16" if recipe.precision == "bfloat16" else "no",
            gradient_accumulation_steps=micro_batches(recipe, processes),
            fsdp_plugin=plugin,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=LONGEST_WAIT_HOURS))],
        )
        yield accelerator
        accelerator.end_training()
    finally:
        # They would keep their settings for the next training in this process.
        GradientState._reset_state()
        AcceleratorState._reset_state(True)


def micro_batches(recipe: Recipe, processes: int) -> int:
    """Return how many pieces a process computes in a step.

    Raises
    ------
    UsageError
        The windows of a step cannot be shared.
    """
    share, left = divmod(recipe.batch, processes)
    pieces, also_left = divmod(share, recipe.micro_batch or share or 1)
    if left or also_left or not pieces:
        raise UsageError(
            f"recipe: batch {recipe.batch} cannot be shared by {processes} processes with micro_batch "
            f"{recipe.micro_batch}; it must be a multiple of their product"
        )
    return pieces


class Loop:
    """A training at a step, from which it goes on.

    Parameters
    ----------
    accelerator : Accelerator
    learner : Learner
    recipe : Recipe
    saved : Saved, optional
        Where to go on from. Every process has to give the same.
    """

    def __init__(self, accelerator: Accelerator, learner: Learner, recipe: Recipe, saved: Saved | None) -> None:
        self.accelerator, self.recipe = accelerator, recipe
        self.step = 0 if saved is None else saved.step
        if saved is not None:
            _load(learner.module, saved.weights)
        optimizer = make_optimizer(learner.module, learner.matrices, recipe.optimizer)
        self._model, self._optimizer = accelerator.prepare(learner.module.train(), optimizer)
        if saved is not None:
            self._restore_moments(saved.moments)

    def run(
        self,
        windows: TokenWindows,
        work: Path,
        record: Callable[[StepRecord], None],
        notify: Callable[[str], None],
    ) -> None:
        """Take all steps that are left, with a checkpoint now and then.

        A signal to end takes effect behind the present step, whose checkpoint is written first.

        Parameters
        ----------
        windows : TokenWindows
        work : Path
            Folder of the checkpoints.
        record : callable
            Called with what is known of each step; in the first process only.
        notify : callable
            Called with what the user should know.

        Raises
        ------
        TrainingError
            The loss or the gradient is no number any more. The weights were not changed by it.
        UsageError
            A checkpoint cannot be written.
        """
        with deferred(*ENDING) as came:
            ending = False
            while self.step < self.recipe.steps and not ending:
                found = self._take_step(windows)
                if self.accelerator.is_main_process:
                    record(found)
                ending = self._any(bool(came))
                if ending or self.step % self.recipe.save_every == 0 or self.step == self.recipe.steps:
                    self._save(work)
            if ending:
                notify(
                    f"stopped after step {self.step} of {self.recipe.steps}, which is saved; "
                    "`resume=True` goes on from there"
                )
                if not came:
                    # Another process got the signal; this one stops with it.
                    came.append(ENDING[0])

    def weights(self) -> Mapping[str, Tensor]:
        """Return all weights, on the CPU; every process has to ask."""
        state = self.accelerator.get_state_dict(self._model)
        # Copies: tied ones are written one by one.
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}

    def _take_step(self, windows: TokenWindows) -> StepRecord:
        accelerator, settings = self.accelerator, self.recipe.optimizer
        rate = learning_rate(settings, self.step, self.recipe.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["share"]
        pieces = self._pieces(windows)
        total = torch.zeros((), device=accelerator.device)
        norm: Any = None
        for ids in pieces:
            with accelerator.accumulate(self._model):
                loss = self._model(ids)
                accelerator.backward(loss)
                total += loss.detach().float() / len(pieces)
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(self._model.parameters(), settings.largest_gradient)
        mean = float(accelerator.reduce(total, "mean"))
        norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if not math.isfinite(mean) or not math.isfinite(norm):
            raise TrainingError(
                f"step {self.step + 1}: the loss is {mean} and the norm of its gradient {norm}; the weights are "
                "those before it, and the last checkpoint is kept. A smaller optimizer.learning_rate or a longer "
                "optimizer.warmup in the recipe may help"
            )
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        return StepRecord(self.step, mean, norm, rate)

    def _pieces(self, windows: TokenWindows) -> list[Tensor]:
        """This process's share of a step's windows, in pieces that are computed one after the other."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        share = windows.batch(self.step).reshape(processes, -1, self.recipe.window)[rank]
        ids = torch.from_numpy(share).to(self.accelerator.device)
        return list(ids.chunk(micro_batches(self.recipe, processes)))

    def _any(self, mine: bool) -> bool:
        """Whether something holds in any process."""
        if self.accelerator.num_processes == 1:
            return mine
        return bool(self.accelerator.reduce(torch.tensor(float(mine), device=self.accelerator.device)) > 0)

    def _save(self, work: Path) -> None:
        saved = Saved(self.step, self.weights(), self._moments())
        if self.accelerator.is_main_process:
            save(work, saved)
        self.accelerator.wait_for_everyone()

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        module = self.accelerator.unwrap_model(self._model)
        return ((name, each) for name, each in module.named_parameters() if each.requires_grad)

    def _moments(self) -> dict[str, Tensor]:
        """The optimizer's state, whole and on the CPU."""
        states = self._optimizer.optimizer.state
        return {
            f"{name}/{moment}": _whole(states[parameter][moment]).to("cpu", copy=True)
            for name, parameter in self._parameters()
            # Empty of one that no loss depends on, as the lower bounds of a single block.
            for moment in states[parameter]
        }

    def _restore_moments(self, moments: Mapping[str, Tensor]) -> None:
        states = self._optimizer.optimizer.state
        for name, parameter in self._parameters():
            if f"{name}/step" not in moments:
                continue
            states[parameter] = {
                moment: _like(moments[f"{name}/{moment}"], parameter, moment) for moment in MOMENTS
            }


def _load(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights and leave what is trained as it was: Brevitas' scales forget it."""
    trained = {name: each.requires_grad for name, each in module.named_parameters()}
    module.load_state_dict(dict(weights))
    for name, each in module.named_parameters():
        each.requires_grad_(trained[name])


def _whole(tensor: Any) -> Tensor:
    """A tensor of which other processes may have parts."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _like(moment: Tensor, parameter: Any, name: str) -> Tensor:
    """A moment where its parameter is, divided as that is; the count of steps stays where AdamW has it."""
    if name == "step":
        return moment.clone()
    moved = moment.to(parameter.device)
    if not hasattr(parameter, "device_mesh"):
        return moved
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(moved, parameter.device_mesh, parameter.placements)

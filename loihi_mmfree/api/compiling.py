"""A checkpoint becomes a network, with formats as given or as narrow as a budget allows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree import defaults
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.errors import Notice
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.progress import Progress, watched_progress

if TYPE_CHECKING:
    from loihi_mmfree.report.shown import NarrowingReport
    from loihi_mmfree.search.narrowing import Trial


def compile(
    checkpoint: str | Path,
    output: str | Path,
    config: CompileConfig | None = None,
    *,
    calibration: Sequence[int] | NDArray[np.int64] | Path | None = None,
    device: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    on_notice: Callable[[str], None] | None = None,
    dump_ir: str | Path | None = None,
    verify: bool = False,
) -> Net:
    """Compile a checkpoint into the folder `output`.

    Parameters
    ----------
    checkpoint : str or Path
        Hugging Face folder, .safetensors, .pt, .ckpt or .bin file, or the id of a model on the hub.
    output : str or Path
        Written whole or not at all.
    config : CompileConfig, optional
    calibration : token ids, or Path, optional
        What to calibrate on instead of the text that the package carries: ids, a text file, or ids in a .npy file.
    device : {"cpu", "cuda"}, optional
        Where the calibration computes; by default on the processor. The formats are the same.
    force : bool
        Replace an existing network.
    progress : callable, optional
        Called with a stage, how much is done, and how much there is. By default shown to whom watches.
    on_notice : callable, optional
        Called with what the user should know. By default a `Notice` is warned of.
    dump_ir : str or Path, optional
        Folder for the graph after every pass.
    verify : bool
        Run the golden input after every pass and compare.

    Raises
    ------
    LoihiMmfreeError
        See `loihi_mmfree.errors`.
    """
    from loihi_mmfree.compiler.debugging import Debugging
    from loihi_mmfree.compiler.pipeline import compile_checkpoint
    from loihi_mmfree.quantize.calibration_ids import ids_given

    settings = config or CompileConfig()
    given = ids_given(calibration, checkpoint, settings.calibration_tokens)
    net, notices = compile_checkpoint(
        checkpoint,
        output,
        settings,
        calibration=None if given is None else given.ids,
        force=force,
        progress=progress or watched_progress(),
        debugging=Debugging(None if dump_ir is None else Path(dump_ir), verify),
        device=_present(device),
    )
    for notice in notices:
        if on_notice is not None:
            on_notice(notice)
        else:
            warnings.warn(notice, Notice, stacklevel=2)
    return net


def _present(device: str | None) -> str:
    """The device to calibrate on, if there is one of this name; the processor where none is named."""
    if device is None:
        return "cpu"
    from loihi_mmfree.memory import require_torch

    require_torch()
    from loihi_mmfree.sim.batched.engine import open_device

    return str(open_device(device))


def narrow(
    checkpoint: str | Path,
    budget: float,
    config: CompileConfig | None = None,
    *,
    budget_text: str | Path | None = None,
    budget_windows: int = defaults.BUDGET_WINDOWS,
    budget_trials: int = defaults.BUDGET_TRIALS,
    calibration: Sequence[int] | NDArray[np.int64] | Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> NarrowingReport:
    """Find the narrowest formats whose integers keep a budget of perplexity; `compile` takes the `config` found.

    Every trial is a network, lowered and proved, whose integers read a text that was not calibrated on; the float
    model has read it once. First all inputs of projections become as narrow as they can be together; then one kind
    of site after the other is narrowed by a step, those first behind which most weights lie, and of a kind that
    cannot be narrowed as a whole both halves of the layers, and so on.

    Parameters
    ----------
    checkpoint : str or Path
        As for `compile`.
    budget : float
        Highest perplexity of the integers over that of the float model, less 1: 0.002 is a fifth of a percent. The
        upper end of the 95 % interval has to keep it.
    config : CompileConfig, optional
        Where to start: no site becomes wider.
    budget_text : str or Path, optional
        A text file to judge on. By default what of the calibration text lies between the windows calibrated on.
    budget_windows : int
        Of 512 tokens of `budget_text`, at most, spread over it.
    budget_trials : int
        Formats that are tried, at most.
    calibration
        As for `compile`, which has to be given the same.
    device : str, optional
        Where the integers run: "cuda", in PyTorch, or "cpu", on the engine; by default a GPU if there is one.
    progress : callable, optional
        As for `compile`.
    on_trial : callable, optional
        Called with every trial as it ends.

    Raises
    ------
    UsageError
        The formats to start from do not keep the budget, or there is too little text to tell.
    BackendUnavailableError
        There is no such device here.
    """
    from loihi_mmfree.quantize.calibration_ids import ids_given
    from loihi_mmfree.report.shown import NarrowingReport
    from loihi_mmfree.search import opening
    from loihi_mmfree.search.narrowing import Budget

    settings = config or CompileConfig()
    found = opening.narrow(
        checkpoint,
        settings,
        Budget(budget, budget_trials),
        ids_given(calibration, checkpoint, settings.calibration_tokens),
        None if budget_text is None else Path(budget_text),
        budget_windows,
        device,
        progress or watched_progress(),
        on_trial or (lambda trial: None),
    )
    return NarrowingReport(**vars(found))

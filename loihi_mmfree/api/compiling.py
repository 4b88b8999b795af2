"""A checkpoint becomes a network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.errors import Notice
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.progress import Progress, watched_progress


def compile(
    checkpoint: str | Path,
    output: str | Path,
    config: CompileConfig | None = None,
    *,
    calibration: Sequence[int] | NDArray[np.int64] | Path | None = None,
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
    from loihi_mmfree.compiler.pipeline import Debugging, compile_checkpoint
    from loihi_mmfree.quantize.calibration import ids_given

    settings = config or CompileConfig()
    net, notices = compile_checkpoint(
        checkpoint,
        output,
        settings,
        calibration=ids_given(calibration, checkpoint, settings.calibration_tokens),
        force=force,
        progress=progress or watched_progress(),
        debugging=Debugging(None if dump_ir is None else Path(dump_ir), verify),
    )
    for notice in notices:
        if on_notice is not None:
            on_notice(notice)
        else:
            warnings.warn(notice, Notice, stacklevel=2)
    return net

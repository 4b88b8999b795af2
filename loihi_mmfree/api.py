"""The Python interface: what the command line does, as functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.checkpoint import as_tokens
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.net.artifact import Net, load_net
from loihi_mmfree.sim.session.backend import Backend
from loihi_mmfree.sim.session.generate import RunResult, check_ids, generate
from loihi_mmfree.sim.session.opening import open_backend
from loihi_mmfree.sim.session.sampling import Sampler

if TYPE_CHECKING:
    from loihi_mmfree.cost.board.profiler import Profile
    from loihi_mmfree.report.document import Report
    from loihi_mmfree.sim.session.compare import Comparison


def compile(
    checkpoint: str | Path,
    output: str | Path,
    config: CompileConfig | None = None,
    *,
    calibration: NDArray[np.int64] | None = None,
    force: bool = False,
) -> Net:
    """Compile a checkpoint into the folder `output`.

    Parameters
    ----------
    checkpoint : str or Path
        Hugging Face folder, .safetensors, .pt, .ckpt or .bin file, or the id of a model on the hub.
    output : str or Path
        The folder to write; it appears whole or not at all.
    config : CompileConfig, optional
        Widths, chip, calibration.
    calibration : int64 array [windows, tokens] or [tokens], optional
        Token ids to calibrate on instead of the text that the package carries.
    force : bool
        Replace an existing network.

    Raises
    ------
    LoihiMmfreeError
        See `loihi_mmfree.errors`.
    """
    from loihi_mmfree.compiler.pipeline import compile_checkpoint

    net, _ = compile_checkpoint(checkpoint, output, config, calibration=calibration, force=force)
    return net


def load(path: str | Path) -> Net:
    """Read a compiled network and check its hashes."""
    return load_net(path)


def run(
    net: Net | str | Path,
    ids: Sequence[int] | NDArray[np.int64],
    new_tokens: int = 64,
    *,
    backend: str = "engine",
    granularity: str = "operator",
    runtime: str = "inprocess",
    kernels: str = "compiled",
    sampler: Sampler | None = None,
    stop_at_end_of_text: bool = True,
    on_token: Callable[[int], None] | None = None,
    activity: bool = False,
    histograms: bool = False,
) -> RunResult:
    """Read a prompt and generate tokens.

    Parameters
    ----------
    net : Net, str or Path
        A compiled network or its folder.
    ids : sequence of int
        The prompt.
    new_tokens : int
        Generate at most so many.
    backend : {"engine", "sim", "loihi2"}
        The integer engine, Lava's CPU simulation, or the chip.
    granularity : {"operator", "block", "network"}
        How much of the network one Lava process holds.
    runtime : {"inprocess", "stock"}
        Lava in this process, or Lava's own runtime with a process for every Lava process.
    kernels : {"compiled", "numpy"}
        What engine and simulation compute with: compiled code, or NumPy, which is the specification and slow.
    sampler : Sampler, optional
        Greedy by default.
    stop_at_end_of_text : bool
        Stop after an end-of-text token of the checkpoint.
    on_token : callable, optional
        Called with each token as it is chosen.
    activity : bool
        Also count every message that is sent; `activity.file.save_activity` keeps the result beside a network.
    histograms : bool
        With `activity`, also sort the values of messages by magnitude; slow, since NumPy computes them.
    """
    network, prompt, end = _prepared(net, ids, stop_at_end_of_text)
    opened: Backend
    if activity:
        from loihi_mmfree.sim.session.recording import open_recording

        opened = recording = open_recording(network, backend, granularity, runtime, kernels, histograms)
    else:
        opened = open_backend(network, backend, granularity, runtime, kernels)
    try:
        result = generate(opened, prompt, new_tokens, sampler or Sampler(), end, on_token)
        return replace(result, activity=recording.activity) if activity else result
    finally:
        opened.close()


def _prepared(
    net: Net | str | Path, ids: Sequence[int] | NDArray[np.int64], stop_at_end_of_text: bool
) -> tuple[Net, NDArray[np.int64], tuple[int, ...]]:
    """The network, a prompt that it can read, and the tokens that end its texts."""
    network = net if isinstance(net, Net) else load_net(net)
    prompt = np.asarray(ids, dtype=np.int64).reshape(-1)
    check_ids(prompt, network.vocab_size)
    return network, prompt, as_tokens(network.manifest["model"].get("eos_token_id")) if stop_at_end_of_text else ()


def profile(
    net: Net | str | Path,
    ids: Sequence[int] | NDArray[np.int64],
    new_tokens: int = 64,
    *,
    sampler: Sampler | None = None,
    stop_at_end_of_text: bool = True,
    on_token: Callable[[int], None] | None = None,
) -> tuple[RunResult, Profile]:
    """Run on Loihi 2 and measure time, energy and activity with Lava's profiler.

    Parameters are those of `run`. What is measured is held against the model, and against the activity that was
    recorded for the network, if any.

    Raises
    ------
    BackendUnavailableError
        There is no chip, or something that drives it is missing.
    ArtifactError
        The recorded activity is damaged or of another network.
    MeasurementError
        What the profiler gave is no measurement.
    """
    from loihi_mmfree.cost.board.profiler import Span, read_profile
    from loihi_mmfree.cost.expectation import expect
    from loihi_mmfree.sim.session.chip import find_runner, most_steps

    network, prompt, end = _prepared(net, ids, stop_at_end_of_text)
    open_on_board = find_runner(network)
    expected = expect(network)  # Before the board is held: it takes seconds.
    opened = open_on_board(most_steps(network.graph, len(prompt), new_tokens))
    try:
        result = generate(opened, prompt, new_tokens, sampler or Sampler(), end, on_token)
    finally:
        opened.close()
    span = Span.of_run(result, new_tokens)
    return result, read_profile(getattr(opened, "probes", None), span, expected)


def compare(net: str | Path, checkpoint: str | Path | None = None, *, lava: bool = True) -> Comparison:
    """Hold a network against its manifest, its golden messages, its checkpoint if given, and Lava.

    Parameters
    ----------
    net : str or Path
        Folder of a compiled network.
    checkpoint : str or Path, optional
        Where it was compiled from.
    lava : bool
        Also run the operator graph on Lava.
    """
    from loihi_mmfree.sim.session.compare import compare_net

    path = None if checkpoint is None else Path(checkpoint)
    return compare_net(load_net(net, verify=False), path, lava)


def report(net: Net | str | Path, *, sweep: bool = False) -> Report:
    """Model time and energy of a network on Loihi 2, from its placement and recorded activity.

    Parameters
    ----------
    net : Net, str or Path
        A compiled network or its folder.
    sweep : bool
        Also model its variations.
    """
    from loihi_mmfree.report.document import build_report

    return build_report(net if isinstance(net, Net) else load_net(net), with_sweep=sweep)

"""The Python interface: what the command line does, as functions with the same defaults.

A network is given as a Net, or as the path of its folder; a prompt as text, or as token ids.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree import defaults
from loihi_mmfree.activity import file as activity_file
from loihi_mmfree.activity.counts import Activity
from loihi_mmfree.activity.observer import NOBODY
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.errors import Notice, UsageError
from loihi_mmfree.net.artifact import Net, load_net, versions
from loihi_mmfree.progress import Progress, watched_progress
from loihi_mmfree.report.evaluate import evaluate
from loihi_mmfree.sim.session.generate import RunResult, Token, TokenStream, check_new_tokens
from loihi_mmfree.sim.session.opening import Choice, prepare
from loihi_mmfree.sim.session.running import (
    Prompt,
    end_of_text,
    logits_file,
    open_stream,
    prompt_ids,
    tokenizer_of,
)
from loihi_mmfree.sim.session.sampling import Sampler
from loihi_mmfree.text import Tokenizer

if TYPE_CHECKING:
    from loihi_mmfree.cost.board.profiler import Profile
    from loihi_mmfree.report.shown import GroupProgram, Inspection, NetworkReport
    from loihi_mmfree.sim.session.bench import Bench
    from loihi_mmfree.sim.session.compare import Comparison

__all__ = [
    "AnyNet", "CompileConfig", "Prompt", "RunResult", "Sampler", "Token", "TokenStream", "Tokenizer", "activity",
    "bench", "chip_extension", "compare", "compile", "evaluate", "inspect", "load", "profile", "program", "report",
    "require_recordable", "run", "save_activity", "stream", "tokenizer", "versions",
]  # fmt: skip

AnyNet = Net | str | Path
OnToken = Callable[[Token], None]


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


def load(path: str | Path) -> Net:
    """Read a compiled network and check its hashes."""
    return load_net(path)


def _loaded(net: AnyNet) -> Net:
    return net if isinstance(net, Net) else load_net(net)


def _folder(net: AnyNet) -> Path:
    return net.path if isinstance(net, Net) else Path(net)


def tokenizer(net: AnyNet) -> Tokenizer | None:
    """Return the tokenizer of a network; None if its checkpoint had none."""
    return tokenizer_of(_loaded(net))


def stream(
    net: AnyNet,
    prompt: Prompt,
    new_tokens: int = defaults.NEW_TOKENS,
    *,
    backend: str = defaults.BACKEND,
    granularity: str = defaults.GRANULARITY,
    runtime: str = defaults.RUNTIME,
    kernels: str = defaults.KERNEL,
    device: str | None = None,
    sampler: Sampler | None = None,
    stop_at_end_of_text: bool = True,
) -> TokenStream:
    """Generate tokens, and give each with its text as it comes.

    The stream is an iterator of `Token` and a context manager; closing it, or an error, releases all that the run
    holds. Its `result()` accounts for what was done. Parameters are those of `run`.
    """
    choice = Choice(backend, granularity, runtime, kernels, device)
    prepare(choice)
    return open_stream(_loaded(net), prompt, new_tokens, choice, sampler, stop_at_end_of_text)


def run(
    net: AnyNet,
    prompt: Prompt,
    new_tokens: int = defaults.NEW_TOKENS,
    *,
    backend: str = defaults.BACKEND,
    granularity: str = defaults.GRANULARITY,
    runtime: str = defaults.RUNTIME,
    kernels: str = defaults.KERNEL,
    device: str | None = None,
    sampler: Sampler | None = None,
    stop_at_end_of_text: bool = True,
    on_token: OnToken | None = None,
    logits: bool = False,
    logits_out: str | Path | None = None,
    activity: bool = False,
    histograms: bool = False,
) -> RunResult:
    """Read a prompt and generate tokens.

    Memory does not grow with the tokens, but for their ids and what `logits` and `activity` ask for.

    Parameters
    ----------
    net : Net, str or Path
        A compiled network or its folder.
    prompt : str or sequence of int
        Text, or token ids.
    new_tokens : int
        Generate at most so many.
    backend : {"sim", "engine", "torch", "loihi2"}
        Lava's CPU simulation, the integer engine, the same integers in PyTorch, or the chip.
    granularity : {"operator", "block", "network"}
        How much of the network one Lava process holds.
    runtime : {"inprocess", "stock"}
        Lava in this process, or Lava's own runtime with a process for every Lava process.
    kernels : {"compiled", "numpy"}
        What engine and simulation compute with: compiled code, or NumPy: the specification, slow.
    device : {"cuda", "cpu"}, optional
        Where "torch" computes; by default on a GPU if there is one.
    sampler : Sampler, optional
        Greedy by default.
    stop_at_end_of_text : bool
        Stop after an end-of-text token of the checkpoint.
    on_token : callable, optional
        Called with each `Token` as it is chosen.
    logits : bool
        Hold the logits of every position in memory, for the result.
    logits_out : str or Path, optional
        Write them to this .npz file as they come (`ids`, `logits`, `scale`); it is there if the run ends well.
    activity : bool
        Also count every message that is sent, for `save_activity`: 4 bytes for an output and a token.
    histograms : bool
        With `activity`, also sort the values of messages by magnitude; slow, since NumPy computes them.

    Raises
    ------
    UsageError
        Options that do not go together, or that the backend cannot do.
    """
    if histograms and not activity:
        raise UsageError("histograms are of a recorded activity: ask for both")
    choice = Choice(backend, granularity, runtime, kernels, device)
    prepare(choice)
    network = _loaded(net)
    recorder = ActivityRecorder(network.graph, histograms) if activity else None
    observer = NOBODY if recorder is None else recorder.observer
    with logits_file(logits_out, network.vocab_size) as file:
        take = None if file is None else file.take
        running = open_stream(
            network, prompt, new_tokens, choice, sampler, stop_at_end_of_text, observer, take, logits
        )
        result = running.finish(on_token)
        if file is not None:
            file.finish(result.ids, result.logit_scale)
    return result if recorder is None else replace(result, activity=recorder.activity(str(choice), result.ids))


def profile(
    net: AnyNet,
    prompt: Prompt,
    new_tokens: int = defaults.NEW_TOKENS,
    *,
    sampler: Sampler | None = None,
    stop_at_end_of_text: bool = True,
    on_token: OnToken | None = None,
    logits_out: str | Path | None = None,
) -> tuple[RunResult, Profile]:
    """Run on Loihi 2 and measure time, energy and activity with Lava's profiler.

    Parameters are those of `run`. What is measured is held against the model, and the recorded activity, if any.

    Raises
    ------
    BackendUnavailableError
        There is no chip, or something that drives it is missing.
    ArtifactError
        The recorded activity is damaged or of another network.
    MeasurementError
        What the profiler gave is no measurement.
    """
    from loihi_mmfree.cost.board.profiler import ProfiledRun, read_profile
    from loihi_mmfree.cost.expectation import expect
    from loihi_mmfree.sim.session.chip import find_runner, most_steps

    network = _loaded(net)
    words, end = tokenizer_of(network), end_of_text(network, stop_at_end_of_text)
    ids = prompt_ids(network, words, prompt)
    check_new_tokens(new_tokens)
    open_on_board = find_runner(network)
    expected = expect(network)  # Before the board is held: it takes seconds.
    with logits_file(logits_out, network.vocab_size) as file:
        opened = open_on_board(most_steps(network.graph, len(ids), new_tokens))
        take = None if file is None else file.take
        running = TokenStream(opened, ids, new_tokens, sampler or Sampler(), end, words, take)
        result = running.finish(on_token)
        if file is not None:
            file.finish(result.ids, result.logit_scale)
    measured = ProfiledRun.of(result, new_tokens)
    return result, read_profile(getattr(opened, "probes", None), measured, expected)


def activity(net: AnyNet) -> Activity | None:
    """Return what a run counted of a network and `save_activity` kept; None if there is nothing.

    Raises
    ------
    ArtifactError
        What was kept is damaged or of another network.
    """
    network = _loaded(net)
    return activity_file.load_activity(network.path, network.graph)


def save_activity(net: AnyNet, activity: Activity) -> Path:
    """Keep what a run counted in the network's folder, for `report` and `profile`; return the file of its totals.

    Raises
    ------
    UsageError
        The folder cannot be written.
    """
    return activity_file.save_activity(_folder(net), activity)


def require_recordable(net: AnyNet, option: str = "") -> None:
    """Refuse a network whose activity could not be kept, before a run; `option` asked for it.

    Raises
    ------
    UsageError
        Its folder cannot be written.
    """
    activity_file.require_recordable(_folder(net), option)


def compare(net: AnyNet, checkpoint: str | Path | None = None, *, lava: bool = True) -> Comparison:
    """Hold a network against its manifest, its golden messages, its checkpoint if given, and Lava.

    Parameters
    ----------
    net : Net, str or Path
        A compiled network or its folder.
    checkpoint : str or Path, optional
        Where it was compiled from.
    lava : bool
        Also run the operator graph on Lava.
    """
    from loihi_mmfree.sim.session.compare import compare_net

    # From its files, unchecked: what is altered in them is to be found.
    loaded = load_net(_folder(net), verify=False)
    return compare_net(loaded, None if checkpoint is None else Path(checkpoint), lava)


def inspect(net: AnyNet) -> Inspection:
    """Say what a network consists of and where it lies: blocks, chips, cores, traffic, formats, depth."""
    from loihi_mmfree.report.shown import Inspection

    return Inspection.of(_loaded(net))


def program(net: AnyNet, node: str) -> GroupProgram:
    """Describe a neuron group, complete enough to write its microcode; as text it is the listing with its header.

    Raises
    ------
    UsageError
        There is no such group.
    """
    from loihi_mmfree.report.shown import GroupProgram

    return GroupProgram.of(_loaded(net), node)


def report(net: AnyNet, *, sweep: bool = False) -> NetworkReport:
    """Model time and energy of a network on Loihi 2, from its placement and recorded activity.

    `sweep` also models its variations.
    """
    from loihi_mmfree.report.shown import NetworkReport

    return NetworkReport.of(_loaded(net), sweep)


def bench(
    net: AnyNet,
    backends: Sequence[str] = defaults.BENCH_BACKENDS,
    granularities: Sequence[str] = defaults.BENCH_GRANULARITIES,
    prompt_tokens: Sequence[int] = defaults.BENCH_PROMPT_TOKENS,
    new_tokens: int = defaults.BENCH_NEW_TOKENS,
    *,
    repeats: int = defaults.BENCH_REPEATS,
    warm_up: int = defaults.BENCH_WARM_UP,
    progress: Progress | None = None,
) -> Bench:
    """Measure throughput on this machine: medians and spread, prefill and decode apart.

    Parameters
    ----------
    net : Net, str or Path
    backends : sequence of str, see `defaults.MEASURABLE_BACKENDS`
    granularities : sequence of {"operator", "block", "network"}, for "sim"
    prompt_tokens : sequence of int
        Lengths of prompts.
    new_tokens : int
        Tokens read one by one after each.
    repeats, warm_up : int
        Counted and uncounted runs of each combination.
    progress : callable, optional
        As for `compile`.
    """
    from loihi_mmfree.sim.session.bench import measure, require_measurable

    require_measurable(backends, granularities, prompt_tokens, new_tokens, repeats, warm_up)
    show, network = progress or watched_progress(), _loaded(net)
    return measure(network, backends, granularities, prompt_tokens, new_tokens, repeats, warm_up, show)


def chip_extension() -> str:
    """Say whether what drives a Loihi 2 is installed, and how to get it."""
    from loihi_mmfree.sim.session.chip import state_of_extension

    return state_of_extension()

"""A network generates tokens, on any backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loihi_mmfree import defaults
from loihi_mmfree.activity.observer import NOBODY
from loihi_mmfree.activity.recorder import ActivityRecorder
from loihi_mmfree.api.networks import AnyNet, loaded
from loihi_mmfree.errors import UsageError
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

if TYPE_CHECKING:
    from loihi_mmfree.cost.board.profiler import Profile

OnToken = Callable[[Token], None]


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
    return open_stream(loaded(net), prompt, new_tokens, choice, sampler, stop_at_end_of_text)


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
    backend : {"sim", "engine", "torch", "rtl", "loihi2"}
        Lava's CPU simulation, the integer engine, the same integers in PyTorch, the core in RTL, or the chip.
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
    network = loaded(net)
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

    prepare(Choice("loihi2"))
    network = loaded(net)
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

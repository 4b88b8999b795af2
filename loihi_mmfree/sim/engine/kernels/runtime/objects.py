"""Machine code that is kept on disk from run to run, and loaded without a compiler.

A file holds an object as LLVM wrote it, behind its SHA-256. Its name is the hash of all that decides what is
in it: the sources of the kernels, the versions of the compilers, the processor, and what was asked for. Like
numba's cache it lies in the user's own folder (`NUMBA_CACHE_DIR` names another) and may be deleted at any time. A
damaged or foreign one is made anew; where nothing can be written, the code stays in memory, with a notice.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
from platformdirs import user_cache_path

from loihi_mmfree.errors import Notice

_KERNELS = Path(__file__).parents[1]
_DIGEST_BYTES = hashlib.sha256().digest_size
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
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    path = cache_folder() / f"{name}.o"
    data = _read(path)
    if data is None:
        data = make()
        try:
            _write(path, data)
        except OSError as error:
            warnings.warn(
                f"{path.parent}: machine code cannot be kept there ({error.strerror}) and is compiled anew in "
                "every run; NUMBA_CACHE_DIR names another folder",
                Notice,
                # This line, not the caller's: it is said once.
                stacklevel=1,
            )
    return data


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


def _read(path: Path) -> bytes | None:
    """Return an object that is whole and the user's own."""
    try:
        with path.open("rb") as file:
            if hasattr(os, "geteuid") and os.fstat(file.fileno()).st_uid not in (os.geteuid(), 0):
                return None
            digest, data = file.read(_DIGEST_BYTES), file.read()
    except OSError:
        return None
    return data if hashlib.sha256(data).digest() == digest else None


def _write(path: Path, data: bytes) -> None:
    """Put an object in its place all at once: another process may be reading or writing it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise

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

import errno
import hashlib
import os
import stat
import uuid
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
from platformdirs import user_cache_path

from loihi_mmfree.errors import Notice
from loihi_mmfree.files import open_regular

_KERNELS = Path(__file__).parents[1]
_DIGEST_BYTES = hashlib.sha256().digest_size
LARGEST_OBJECT_BYTES = 2**28
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
        folder = _PrivateFolder(cache_folder())
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


class _PrivateFolder:
    """An open folder that is the user's own and nobody else's.

    Parameters
    ----------
    path : Path
        Made if it is not there.

    Raises
    ------
    OSError
        It cannot be made or opened, is a link, belongs to somebody else, or others may read or write it.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(self._handle)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            self.close()
            raise OSError(errno.EACCES, "it must belong to the user who runs this, with mode 700")

    def close(self) -> None:
        """Close it."""
        os.close(self._handle)

    def read(self, name: str) -> bytes | None:
        """Return an object if it is whole, the user's own, and the one of this name."""
        try:
            with open_regular(name, self._handle, follow=False) as file:
                found = os.fstat(file.fileno())
                if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
                    return None
                digest, data = file.read(_DIGEST_BYTES), file.read(LARGEST_OBJECT_BYTES)
                if _digest(name, data) != digest:
                    return None
                with suppress(OSError):
                    os.utime(file.fileno())  # The sweep goes by the time of the last use.
                return data
        except OSError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Put an object in its place all at once: another process may be reading or writing it."""
        temporary = f"{uuid.uuid4().hex}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(temporary, flags, 0o600, dir_fd=self._handle)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_digest(name, data) + data)
            os.replace(temporary, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self._handle)
            raise
        self._sweep()

    def _sweep(self) -> None:
        """Remove all but the objects used last; what a killed process left half written goes with them."""
        used = []
        for name in os.listdir(self._handle):
            with suppress(OSError):
                used.append((os.stat(name, dir_fd=self._handle, follow_symlinks=False).st_mtime, name))
        for _, name in sorted(used)[:-MOST_OBJECTS]:
            if name.endswith((".o", ".tmp")):
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._handle)


def _digest(name: str, data: bytes) -> bytes:
    return hashlib.sha256(name.encode() + data).digest()

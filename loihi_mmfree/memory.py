"""Memory: how much this process can still get, and a message instead of a traceback when there is none left."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from loihi_mmfree.errors import OutOfMemoryError
from loihi_mmfree.units import MEGABYTE, bytes_text

NUMPY_BYTES, NUMPY_THREAD_BYTES = 100 * 10**6, 16 * 10**6
"""Address space that importing NumPy takes, and each thread of OpenBLAS; measured. With less it may never end."""
TORCH_BYTES, TORCH_CUDA_BYTES = 8 * 10**8, 33 * 10**8
"""Address space that importing torch takes: measured for CUDA (3.2 GB, torch 2.14), a guess from below without."""
_MEMORY = Path("/proc/meminfo")
_PROCESS = Path("/proc/self/status")
_MAPS = Path("/proc/self/maps")
_GROUP = Path("/sys/fs/cgroup")
# How torch and the system's loader of libraries say it, for want of an exception of its own.
_WORDS = ("can't allocate memory", "Cannot allocate memory", "not enough memory", "failed to map segment")


def free_bytes() -> int | None:
    """Return the bytes that can still be had: of the machine with its swap, of its container, of its own limits.

    None where the system does not say. What caches hold counts as free.
    """
    try:
        lines = dict(line.split(":") for line in _MEMORY.read_text().splitlines())
        machine = 1024 * sum(int(lines[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
        return min([machine, *_free_under_limits(), *_free_in_group()])
    except (OSError, ValueError, KeyError, MemoryError):
        return None


def _free_under_limits(data: bool = True) -> Iterator[int]:
    """What the limits of this process (`ulimit -v`, with `data` also `-d`) leave, where the system knows any."""
    try:
        import resource
    except ImportError:
        return
    lines = dict(line.split(":", 1) for line in _PROCESS.read_text().splitlines())
    for name, kind in (("VmSize", resource.RLIMIT_AS), ("VmData", resource.RLIMIT_DATA)):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY and (data or name == "VmSize"):
            yield max(0, limit - 1024 * int(lines[name].split()[0]))


def _free_in_group() -> Iterator[int]:
    """What is left of the memory of a container, if it has a limit."""
    limit = _GROUP / "memory.max"
    if limit.is_file() and (most := limit.read_text().strip()) != "max":
        used = int((_GROUP / "memory.current").read_text())
        parts = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        yield max(0, int(most) - used + int(parts["inactive_file"]) + int(parts["active_file"]))


def in_words(free: int | None) -> str:
    """Return "; 1.2 GB are free", or nothing where that is not known."""
    return "" if free is None else f"; {bytes_text(free)} are free"


def require_memory(needed: int, what: str, advice: str) -> None:
    """Refuse what cannot end well, before the system has to kill it.

    Parameters
    ----------
    needed : int
        Bytes that are certainly needed at once.
    what, advice : str
        What needs them, and what to do.

    Raises
    ------
    OutOfMemoryError
        Less is free.
    """
    free = free_bytes()
    if free is not None and needed > free:
        raise OutOfMemoryError(f"{what}: needs at least {bytes_text(needed)} of memory{in_words(free)}; {advice}")


def require_address_space(needed: int, what: str, data: bool = True) -> None:
    """Refuse a limit under which a library would not fail but try for ever to start: OpenBLAS does that.

    Parameters
    ----------
    needed : int
        Bytes that are needed at once, beside those in use.
    what : str
        What needs them.
    data : bool
        Whether it needs them as data, which has a limit of its own, and not for the most part as mapped libraries.

    Raises
    ------
    OutOfMemoryError
        A limit of this process leaves less.
    """
    with contextlib.suppress(OSError, ValueError, KeyError):
        left = min(_free_under_limits(data), default=needed)
        if left < needed:
            raise OutOfMemoryError(
                f"{what}: needs {bytes_text(needed)} more of address space, and the limits of this process leave "
                f"{bytes_text(left)}; raise them (ulimit -v, ulimit -d)"
            )


def require_torch() -> None:
    """Refuse a limit under which torch would die in the middle of its import, at any place and in any words.

    Raises
    ------
    OutOfMemoryError
        The limits of this process leave too little address space.
    """
    found = None if "torch" in sys.modules else find_spec("torch")
    if found is not None and found.origin is not None:
        for_cuda = (Path(found.origin).parent / "lib" / "libtorch_cuda.so").exists()
        require_address_space(TORCH_CUDA_BYTES if for_cuda else TORCH_BYTES, "import of torch", data=False)


@contextlib.contextmanager
def out_of_memory(what: str, advice: str) -> Iterator[None]:
    """Turn every way in which memory can run out into one error that says for what.

    Raises
    ------
    OutOfMemoryError
        An allocation failed within the block.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError, ImportError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"{what}: out of memory{in_words(free_bytes())} now; {advice}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation failed."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = isinstance(error, RuntimeError | ImportError) and any(words in str(error) for words in _WORDS)
    return said or isinstance(error, MemoryError)


def peak_rss_mb() -> float | None:
    """Return the peak resident memory of this process in MB (10**6 bytes); None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in units of 1024 bytes, macOS in bytes.
    return peak * (1 if sys.platform == "darwin" else 1024) / MEGABYTE


def release_code_of(library: str) -> None:
    """Give back the pages of a shared library's code that were touched so far; those needed again come back.

    LLVM's library touches nearly all of its 80 MB when it starts. Does nothing where the system does not say where
    a library lies.

    Parameters
    ----------
    library : str
        What the name of its file begins with.
    """
    try:
        lines = [line.split() for line in _MAPS.read_text().splitlines()]
    except OSError:
        return
    system = ctypes.CDLL(None)
    for places, access, *_, path in (line for line in lines if len(line) == 6):
        # Code only: what the loader has written to is not in the file.
        if access == "r-xp" and Path(path).name.startswith(library):
            begin, end = (int(place, 16) for place in places.split("-"))
            system.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)

"""What torch says of a missing or old CUDA stays away from users; nothing else does."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from loihi_mmfree.quiet import without_cuda_warnings

# c10/cuda/CUDAFunctions.cpp of torch 2.3 to 2.14, and torch/utils/cpp_extension.py.
OLD_DRIVER = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)."
LOGGER = logging.getLogger("torch.utils.cpp_extension")
NO_RUNTIME = "No CUDA runtime is found, using CUDA_HOME='%s'"


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What the logger of torch's extensions lets through; torch's own settings keep it from the root logger."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    LOGGER.addHandler(handler)
    yield found
    LOGGER.removeHandler(handler)


def test_an_old_driver_is_not_warned_of_and_all_else_is() -> None:
    with warnings.catch_warnings(record=True) as caught, without_cuda_warnings():
        warnings.warn(OLD_DRIVER, UserWarning, stacklevel=1)
        warnings.warn("CUDA out of memory", UserWarning, stacklevel=1)
    assert [str(each.message) for each in caught] == ["CUDA out of memory"]


def test_afterwards_it_is_warned_of_again(logged: list[str]) -> None:
    with without_cuda_warnings():
        pass
    LOGGER.warning(NO_RUNTIME, "/usr/local/cuda")
    assert len(logged) == 1
    with pytest.warns(UserWarning, match="CUDA initialization"):
        warnings.warn(OLD_DRIVER, UserWarning, stacklevel=1)


def test_a_missing_runtime_is_not_logged_and_all_else_is(logged: list[str]) -> None:
    with without_cuda_warnings():
        LOGGER.warning(NO_RUNTIME, "/usr/local/cuda")
        LOGGER.warning("no C++ compiler")
    assert logged == ["no C++ compiler"]


def test_importing_what_a_compilation_needs_says_nothing_of_cuda(tmp_path: Path) -> None:
    """torch looks for a runtime where CUDA_HOME is set, and there is none."""
    script = "from loihi_mmfree.quantize.libraries import import_libraries; import_libraries()"
    done = subprocess.run(
        [sys.executable, "-W", "default::UserWarning", "-c", script],
        env={"CUDA_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CUDA" not in done.stderr

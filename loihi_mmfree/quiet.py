"""Words of other packages that would worry a user for nothing."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_NO_DRIVER = "CUDA initialization"
"""How torch's warning begins that a driver of NVIDIA is too old, or fails."""
_NO_RUNTIME = "No CUDA runtime is found"
_LOGGER = "torch.utils.cpp_extension"


@contextlib.contextmanager
def without_cuda_warnings() -> Iterator[None]:
    """Leave out, within this block, what torch says of a missing or old CUDA: nothing here needs one.

    Only these two messages; whatever else is warned of is shown as ever.
    """
    logger = logging.getLogger(_LOGGER)
    logger.addFilter(_is_no_complaint)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_NO_DRIVER, category=UserWarning)
            yield
    finally:
        logger.removeFilter(_is_no_complaint)


def _is_no_complaint(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_NO_RUNTIME)

"""The shipped tiny checkpoint, opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from loihi_mmfree.checkpoint import Checkpoint, open_checkpoint


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint: Path) -> Checkpoint:
    """The checkpoint mmf-tiny."""
    return open_checkpoint(tiny_checkpoint)

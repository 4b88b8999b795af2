"""On Loihi 2 itself, where Intel's extension and somebody's plug-ins are installed; skipped elsewhere."""

from __future__ import annotations

import pytest

from loihi_mmfree import api
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.sim.session.chip import extension_installed

pytestmark = pytest.mark.loihi2


@pytest.fixture(autouse=True)
def board(tiny_net: Net) -> None:
    if not extension_installed():
        pytest.skip("Intel's extension of Lava is not installed")
    if problems := api.dry_run(tiny_net).problems:
        pytest.skip("; ".join(problems))


def test_a_board_gives_the_golden_logits(tiny_net: Net) -> None:
    assert api.compare(tiny_net, lava=False, backend="loihi2").equal


def test_a_board_generates_what_the_engine_generates(tiny_net: Net) -> None:
    found = api.run(tiny_net, [1, 2, 3], 8, backend="loihi2")
    assert found.logits_sha256 == api.run(tiny_net, [1, 2, 3], 8, backend="engine").logits_sha256


def test_a_board_is_measured(tiny_net: Net) -> None:
    _, measured = api.profile(tiny_net, [1, 2, 3], 8, stop_at_end_of_text=False)
    assert measured.seconds > 0
    assert measured.joules is None or measured.joules > 0

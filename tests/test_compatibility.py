"""Lava's last release on Pythons and a numpy that came after it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any

import pytest

from loihi_mmfree.compatibility import _with_factories

needs_lava = pytest.mark.skipif(find_spec("lava") is None, reason="Lava is not installed")


@dataclass
class Part:
    """Not hashable, as dataclasses are by default."""

    length: int = 3


def test_an_instance_as_default_becomes_a_part_of_each_instances_own() -> None:
    @_with_factories(dataclass)
    class Whole:
        first: Part = Part()
        second: int = 7

    one, other = Whole(), Whole()
    assert (one.first, one.second) == (Part(), 7)
    assert one.first is not other.first
    assert [each.name for each in fields(Whole)] == ["first", "second"]


def test_options_of_a_dataclass_are_passed_on() -> None:
    @_with_factories(dataclass)(frozen=True)
    class Frozen:
        part: Part = Part()

    with pytest.raises(AttributeError):
        Frozen().part = Part()  # type: ignore[misc]


def run(script: str) -> Any:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)


@needs_lava
@pytest.mark.skipif(sys.version_info < (3, 11), reason="Lava imports by itself on Python 3.10")
def test_lava_that_does_not_import_by_itself_does_with_this_package() -> None:
    alone = run("import lava.magma.core.process.process")
    assert "mutable default" in alone.stderr
    with_ours = run(
        "import dataclasses; before = dataclasses.dataclass\n"
        "import loihi_mmfree.processes, lava.magma.core.process.process\n"
        "assert dataclasses.dataclass is before"
    )
    assert with_ours.returncode == 0, with_ours.stderr


@needs_lava
def test_ports_reshape() -> None:
    import numpy as np
    from lava.magma.core.process.ports.ports import ReshapePort

    port = ReshapePort(new_shape=(2, 3), old_shape=(6,))
    assert port.get_transform_func_fwd()(np.arange(6)).shape == (2, 3)
    assert port.get_transform_func_bwd()(np.zeros((2, 3))).shape == (6,)


def test_without_lava_the_simulation_says_how_to_get_it() -> None:
    alone = run(
        "import importlib.util as util; found = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'lava' else found(name, *rest)\n"
        "from loihi_mmfree.errors import BackendUnavailableError\n"
        "try:\n"
        "    import loihi_mmfree.sim.lava\n"
        "except BackendUnavailableError as error:\n"
        "    print(error.exit_code, error)\n"
    )
    assert alone.stdout.startswith("7 backend sim: Lava is not installed"), alone.stderr
    assert "lava.md says how" in alone.stdout

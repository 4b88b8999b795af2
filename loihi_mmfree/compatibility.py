"""lava-nc 0.10.0 on Python 3.11 and later and numpy 2, for which it was not made: what our networks need of it.

Dataclasses of `lava.magma.compiler.var_model` have instances of another dataclass as default values. Python
refuses that since 3.11, for an instance that is not hashable, since all instances of the class would share it.
`ReshapePort` calls numpy's `reshape` with a keyword, `newshape`, that numpy 2.1 calls `shape` and later versions
do not know.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

_MODULE = "lava.magma.compiler.var_model"


def mend_lava() -> None:
    """Make Lava's import possible, and its ports reshape; who imports Lava calls it before.

    Does nothing on Python 3.10, where Lava is not installed, or the second time.
    """
    if sys.version_info < (3, 11) or _MODULE in sys.modules:
        return
    dataclass = dataclasses.dataclass
    dataclasses.dataclass = _with_factories(dataclass)
    try:
        importlib.import_module(_MODULE)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{_MODULE}.".startswith(f"{error.name}."):
            raise
    else:
        _name_shapes()
    finally:
        dataclasses.dataclass = dataclass


def _with_factories(dataclass: Callable[..., Any]) -> Callable[..., Any]:
    """`dataclass`, taking defaults that are instances of a dataclass as calls of it without arguments."""

    def decorate(cls: type | None = None, /, **options: Any) -> Any:
        if cls is None:
            return lambda each: decorate(each, **options)
        for name in vars(cls).get("__annotations__", {}):
            default = vars(cls).get(name)
            if dataclasses.is_dataclass(default) and default.__class__.__hash__ is None:
                setattr(cls, name, dataclasses.field(default_factory=type(default)))
        return dataclass(cls, **options)

    return decorate


def _name_shapes() -> None:
    """Have ports call `reshape` with its keyword of today."""
    import numpy as np
    from lava.magma.core.process.ports.ports import ReshapePort

    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        ReshapePort.get_transform_func_fwd = lambda port: partial(np.reshape, shape=port.shape)
        ReshapePort.get_transform_func_bwd = lambda port: partial(np.reshape, shape=port.old_shape)

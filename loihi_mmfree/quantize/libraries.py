"""torch and Brevitas, imported in one go: the seconds in which a compilation has written nothing yet."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from loihi_mmfree.interrupts import importing
from loihi_mmfree.quiet import without_cuda_warnings


def import_libraries() -> None:
    """Import what calibration computes with. Later imports of the same find it there."""
    with importing(), without_cuda_warnings():
        import torch  # noqa: F401

        with _left_for_later(), warnings.catch_warnings():
            # It advises to install a package that has nothing to do with this.
            warnings.filterwarnings("ignore", message="fast_hadamard_transform")
            import brevitas.nn  # noqa: F401


@contextlib.contextmanager
def _left_for_later() -> Iterator[None]:
    """Leave out, within this block, what Brevitas imports and does not need until somebody asks it for more.

    torch's compiler is a thousand modules and a folder for temporary files, imported inside an `except:` that also
    takes Ctrl-C; its builder of C++ extensions loads setuptools, SciPy's linear algebra a second OpenBLAS.
    """
    stand_ins: Mapping[str, Mapping[str, Any]] = {
        "torch._dynamo": {"is_compiling": lambda: False},
        "torch.utils.cpp_extension": {},
        "scipy.linalg": {"hadamard": _hadamard},
    }
    put = [_StandIn(name, answers) for name, answers in stand_ins.items() if name not in sys.modules]
    for each in put:
        sys.modules[each.__name__] = each
    try:
        yield
    finally:
        for each in put:
            each.step_aside()


def _hadamard(*size: Any, **kind: Any) -> Any:
    return importlib.import_module("scipy.linalg").hadamard(*size, **kind)


class _StandIn(ModuleType):
    """Answers what Brevitas asks of a module in its import. Whoever asks for anything else gets the module itself.

    Parameters
    ----------
    name : str
    answers : mapping name -> object
    """

    def __init__(self, name: str, answers: Mapping[str, Any]) -> None:
        super().__init__(name)
        vars(self).update(answers)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.step_aside()
        return getattr(importlib.import_module(self.__name__), name)

    def step_aside(self) -> None:
        """Let later imports find the module itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        parent, _, own = self.__name__.rpartition(".")
        if vars(sys.modules.get(parent, ModuleType(parent))).get(own) is self:
            delattr(sys.modules[parent], own)

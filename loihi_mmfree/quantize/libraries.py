"""torch and Brevitas, imported in one go: the seconds in which a compilation has written nothing yet."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any

from loihi_mmfree.interrupts import importing
from loihi_mmfree.memory import require_address_space
from loihi_mmfree.quiet import without_cuda_warnings

BREVITAS_BYTES = 5 * 10**8
"""Address space that Brevitas and SciPy take beside torch (measured: 0.4 GB). OpenBLAS never starts with less."""
_COMPILER = "torch._dynamo"


def import_libraries() -> None:
    """Import what calibration computes with. Later imports of the same find it there.

    Raises
    ------
    OutOfMemoryError
        The limits of this process leave too little address space.
    """
    with importing(), without_cuda_warnings():
        import torch  # noqa: F401

        require_address_space(BREVITAS_BYTES, "import of Brevitas")
        without_compiler = _COMPILER not in sys.modules
        if without_compiler:
            sys.modules[_COMPILER] = _NoCompiler(_COMPILER)
        try:
            with warnings.catch_warnings():
                # It advises to install a package that has nothing to do with this.
                warnings.filterwarnings("ignore", message="fast_hadamard_transform")
                import brevitas.graph.calibrate
                import brevitas.nn  # noqa: F401
        finally:
            if without_compiler:
                _forget_compiler()


class _NoCompiler(ModuleType):
    """Says for torch's compiler that nothing is being compiled, which is all that Brevitas asks in its import.

    For that answer it would import the compiler, a thousand modules and a folder for temporary files, inside an
    `except:` that also takes Ctrl-C. Whoever asks for anything else gets the compiler.
    """

    def is_compiling(self) -> bool:
        """Whether torch's compiler looks at the code that asks."""
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _forget_compiler()
        import torch._dynamo

        return getattr(torch._dynamo, name)


def _forget_compiler() -> None:
    import torch

    if isinstance(sys.modules.get(_COMPILER), _NoCompiler):
        del sys.modules[_COMPILER]
    if isinstance(vars(torch).get("_dynamo"), _NoCompiler):
        del torch._dynamo

"""Take a MatMul-free language model to Intel's Loihi 2.

>>> import loihi_mmfree
>>> net = loihi_mmfree.compile("checkpoint/", "net/")         # doctest: +SKIP
>>> result = loihi_mmfree.run(net, [1, 17, 42], new_tokens=8)  # doctest: +SKIP
>>> result.new_ids                                            # doctest: +SKIP

Importing the package imports neither torch nor brevitas nor lava.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loihi_mmfree.version import __version__

if TYPE_CHECKING:
    from loihi_mmfree.api import compare, compile, load, run

__all__ = ["__version__", "compare", "compile", "load", "run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from loihi_mmfree import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

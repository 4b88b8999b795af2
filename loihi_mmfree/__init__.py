"""Take a MatMul-free language model to Intel's Loihi 2.

>>> import loihi_mmfree
>>> net = loihi_mmfree.compile("checkpoint/", "net/")                     # doctest: +SKIP
>>> result = loihi_mmfree.run(net, "It was a dark night", new_tokens=8)   # doctest: +SKIP
>>> result.text                                                           # doctest: +SKIP

Importing the package imports neither torch nor brevitas nor lava.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from loihi_mmfree.errors import (
    ArtifactError,
    BackendUnavailableError,
    CheckpointError,
    DoesNotFitError,
    LoihiMmfreeError,
    MeasurementError,
    MismatchError,
    Notice,
    OutOfMemoryError,
    SimulationError,
    TrainingError,
    UnsupportedModelError,
    UsageError,
)
from loihi_mmfree.version import __version__

if TYPE_CHECKING:
    from loihi_mmfree.activity.counts import Activity
    from loihi_mmfree.api import (
        activity,
        bench,
        compare,
        compile,
        dry_run,
        emit,
        evaluate,
        export,
        inspect,
        load,
        narrow,
        profile,
        program,
        report,
        run,
        save_activity,
        stream,
        sweep,
        tokenizer,
        train,
        vectors,
    )
    from loihi_mmfree.compiler.config import CompileConfig
    from loihi_mmfree.cost.board.profiler import Profile
    from loihi_mmfree.net.artifact import Net
    from loihi_mmfree.quantize.config import QuantizationConfig, SiteRule
    from loihi_mmfree.report.shown import (
        EvaluationReport,
        GroupProgram,
        Inspection,
        NarrowingReport,
        NetworkReport,
    )
    from loihi_mmfree.report.swept import SweepReport
    from loihi_mmfree.report.vectors.folder import Vectors
    from loihi_mmfree.rtl.emission import Emission
    from loihi_mmfree.sim.session.bench import Bench
    from loihi_mmfree.sim.session.chip import DryRun
    from loihi_mmfree.sim.session.compare import Comparison
    from loihi_mmfree.sim.session.generate import RunResult, Token, TokenStream
    from loihi_mmfree.sim.session.sampling import Sampler
    from loihi_mmfree.text import Tokenizer
    from loihi_mmfree.train.recipe import Recipe
    from loihi_mmfree.train.training import Training

__all__ = [
    "Activity",
    "ArtifactError",
    "BackendUnavailableError",
    "Bench",
    "CheckpointError",
    "Comparison",
    "CompileConfig",
    "DoesNotFitError",
    "DryRun",
    "Emission",
    "EvaluationReport",
    "GroupProgram",
    "Inspection",
    "LoihiMmfreeError",
    "MeasurementError",
    "MismatchError",
    "NarrowingReport",
    "Net",
    "NetworkReport",
    "Notice",
    "OutOfMemoryError",
    "Profile",
    "QuantizationConfig",
    "Recipe",
    "RunResult",
    "Sampler",
    "SimulationError",
    "SiteRule",
    "SweepReport",
    "Token",
    "TokenStream",
    "Tokenizer",
    "Training",
    "TrainingError",
    "UnsupportedModelError",
    "UsageError",
    "Vectors",
    "__version__",
    "activity",
    "bench",
    "compare",
    "compile",
    "dry_run",
    "emit",
    "evaluate",
    "export",
    "inspect",
    "load",
    "narrow",
    "profile",
    "program",
    "report",
    "run",
    "save_activity",
    "stream",
    "sweep",
    "tokenizer",
    "train",
    "vectors",
]

_TYPES = {
    "Activity": "activity.counts",
    "Bench": "sim.session.bench",
    "Comparison": "sim.session.compare",
    "CompileConfig": "compiler.config",
    "DryRun": "sim.session.chip",
    "Emission": "rtl.emission",
    "EvaluationReport": "report.shown",
    "GroupProgram": "report.shown",
    "Inspection": "report.shown",
    "NarrowingReport": "report.shown",
    "Net": "net.artifact",
    "NetworkReport": "report.shown",
    "Profile": "cost.board.profiler",
    "QuantizationConfig": "quantize.config",
    "Recipe": "train.recipe",
    "RunResult": "sim.session.generate",
    "Sampler": "sim.session.sampling",
    "SiteRule": "quantize.config",
    "SweepReport": "report.swept",
    "Token": "sim.session.generate",
    "TokenStream": "sim.session.generate",
    "Tokenizer": "text",
    "Training": "train.training",
    "Vectors": "report.vectors.folder",
}
"""Where types are defined; the functions are all in `api`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_TYPES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """This module, in which functions of the interface keep their names from the rooms called alike."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

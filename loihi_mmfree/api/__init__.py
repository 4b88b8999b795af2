"""The Python interface: what the command line does, as functions with the same defaults.

A network is given as a Net, or as the path of its folder; a prompt as text, or as token ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loihi_mmfree.api.chip import chip_extension, chip_host, dry_run, plug_ins
from loihi_mmfree.api.compiling import compile, narrow
from loihi_mmfree.api.emitting import check_core, emit
from loihi_mmfree.api.evaluating import evaluate
from loihi_mmfree.api.networks import AnyNet, load, tokenizer
from loihi_mmfree.api.recording import activity, require_recordable, save_activity
from loihi_mmfree.api.reporting import bench, compare, export, inspect, program, report, vectors
from loihi_mmfree.api.running import profile, run, stream
from loihi_mmfree.api.sweeping import sweep
from loihi_mmfree.api.training import train
from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.net.artifact import versions
from loihi_mmfree.sim.session.generate import RunResult, Token, TokenStream
from loihi_mmfree.sim.session.running import Prompt
from loihi_mmfree.sim.session.sampling import Sampler
from loihi_mmfree.text import Tokenizer
from loihi_mmfree.train.recipe import Recipe

if TYPE_CHECKING:
    from loihi_mmfree.cost.board.profiler import Profile as Profile

__all__ = [
    "AnyNet",
    "CompileConfig",
    "Prompt",
    "Recipe",
    "RunResult",
    "Sampler",
    "Token",
    "TokenStream",
    "Tokenizer",
    "activity",
    "bench",
    "check_core",
    "chip_extension",
    "chip_host",
    "compare",
    "compile",
    "dry_run",
    "emit",
    "evaluate",
    "export",
    "inspect",
    "load",
    "narrow",
    "plug_ins",
    "profile",
    "program",
    "report",
    "require_recordable",
    "run",
    "save_activity",
    "stream",
    "sweep",
    "tokenizer",
    "train",
    "vectors",
    "versions",
]

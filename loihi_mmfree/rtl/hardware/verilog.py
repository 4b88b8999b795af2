"""The core as Verilog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amaranth.back import verilog

from loihi_mmfree.rtl.hardware.core import MmfreeCore
from loihi_mmfree.rtl.hardware.lane import LANE_MODULE, VectorLane
from loihi_mmfree.rtl.parameters import CoreParameters

TOP = "mmfree_core"


@dataclass(frozen=True)
class CoreVerilog:
    """A core as Verilog.

    Parameters
    ----------
    text : str
        One file; the core is module `mmfree_core`, of which every lane is a `mmfree_lane`.
    ports : mapping name -> bits
        But clock and reset.
    """

    text: str
    ports: Mapping[str, int]


def generate(parameters: CoreParameters) -> CoreVerilog:
    """Return a core; the same parameters give the same text."""
    lane, core = VectorLane(parameters), MmfreeCore(parameters, refers=True)
    text = _converted(lane, LANE_MODULE, lane.inputs | lane.outputs) + _converted(core, TOP, core.ports)
    return CoreVerilog(text, {name: len(signal) for name, signal in core.ports.items()})


def _converted(module: Any, name: str, ports: Mapping[str, Any]) -> str:
    directed = {port: (signal, None) for port, signal in ports.items()}
    text: str = verilog.convert(module, name=name, ports=directed, strip_internal_attrs=True, emit_src=False)
    return text

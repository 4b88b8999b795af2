"""The core as Verilog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.back import verilog

from loihi_mmfree.rtl.hardware.core import MmfreeCore
from loihi_mmfree.rtl.hardware.lane import LANE_MODULE, VectorLane
from loihi_mmfree.rtl.parameters import CoreParameters

TOP = "mmfree_core"


def core_verilog(parameters: CoreParameters) -> str:
    """Return the Verilog of a core: one file, module `mmfree_core`."""
    lane, core = VectorLane(parameters), MmfreeCore(parameters, refers=True)
    return _converted(lane, LANE_MODULE, lane.inputs | lane.outputs) + _converted(core, TOP, core.ports)


def _converted(module: Any, name: str, ports: Mapping[str, Any]) -> str:
    directed = {port: (signal, None) for port, signal in ports.items()}
    text: str = verilog.convert(module, name=name, ports=directed, strip_internal_attrs=True, emit_src=False)
    return text

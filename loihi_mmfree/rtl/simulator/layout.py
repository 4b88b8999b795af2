"""How many bytes the harness and the core's process take for what they tell each other."""

from __future__ import annotations

from loihi_mmfree.rtl.parameters import CoreParameters

_BYTE = 8


def token_bytes(parameters: CoreParameters) -> int:
    """Return the bytes of one value in the token stream."""
    return -(-parameters.widths.message // _BYTE)


def sent_bytes(parameters: CoreParameters) -> int:
    """Return the bytes of the lanes' values, as Verilator holds them: in words of 32 bits, or in one of 64."""
    bits = parameters.widths.message * parameters.size.lanes
    return 8 if 32 < bits <= 64 else -(-bits // 32) * 4

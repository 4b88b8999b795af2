"""The two ends of a network: where the host writes tokens in, and where it reads logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from loihi_mmfree.processes.scheduled import (
    CHANNEL_BITS,
    DirectInPort,
    ScheduledModel,
    ScheduledProcess,
    SharedOutPort,
    port_shapes,
)


class TokenSource(ScheduledProcess):
    """Sends the embedding row of a token in the time step in which the token enters.

    Parameters
    ----------
    name : str
    size : int
        Length of a row.
    depth : int
        As for ScheduledProcess.
    buffer_size : int
        Rows that the host may write ahead.
    together : int
        As for ScheduledProcess.

    Attributes
    ----------
    row : InPort
        External pipe: the host writes one row for each token.
    row_together : InPort
        With `together`, likewise for many.
    out : OutPort
    """

    def __init__(self, *, name: str, size: int, depth: int, buffer_size: int, together: int = 1) -> None:
        outputs = {"out": size}
        super().__init__(
            name=name, inputs={}, outputs=outputs, states={}, offset=0, depth=depth, together=together
        )
        for port, shape in port_shapes({"row": size}, together).items():
            pipe = InPort(shape=shape)
            pipe.flag_external_pipe(buffer_size=buffer_size)
            setattr(self, port, pipe)


@implements(proc=TokenSource, protocol=LoihiProtocol)
@requires(CPU)
class TokenSourceModel(ScheduledModel):
    """Passes a row on."""

    row: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    out: SharedOutPort = LavaPyType(SharedOutPort, np.int32, precision=CHANNEL_BITS)

    def compute(self, received: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Wait for the host's next row, or rows."""
        return {"out": self.port("row").recv()}


class PromptSourceModel(TokenSourceModel):
    """The same where tokens may share a message."""

    row_together: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    out_together: SharedOutPort = LavaPyType(SharedOutPort, np.int32, precision=CHANNEL_BITS)


class LogitsSink(ScheduledProcess):
    """Hands the accumulators of the head to the host, once for every token.

    Parameters
    ----------
    name : str
    size : int
        Entries of the vocabulary.
    offset, depth : int
        As for ScheduledProcess.
    buffer_size : int
        Rows that the host may leave unread.
    together : int
        As for ScheduledProcess.

    Attributes
    ----------
    accumulators : InPort
    logits : OutPort
        External pipe: the host reads one row for each token.
    logits_together : OutPort
        With `together`, likewise for many.
    """

    def __init__(
        self, *, name: str, size: int, offset: int, depth: int, buffer_size: int, together: int = 1
    ) -> None:
        super().__init__(
            name=name,
            inputs={"accumulators": size},
            outputs={},
            states={},
            offset=offset,
            depth=depth,
            together=together,
        )
        for port, shape in port_shapes({"logits": size}, together).items():
            pipe = OutPort(shape=shape)
            pipe.flag_external_pipe(buffer_size=buffer_size)
            setattr(self, port, pipe)


@implements(proc=LogitsSink, protocol=LoihiProtocol)
@requires(CPU)
class LogitsSinkModel(ScheduledModel):
    """Sends to the host in the time steps that carry a token only."""

    accumulators: DirectInPort = LavaPyType(DirectInPort, np.int32, precision=CHANNEL_BITS)
    logits: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def compute(self, received: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Pass the row on, or the rows."""
        return {"logits": received["accumulators"]}


class PromptSinkModel(LogitsSinkModel):
    """The same where tokens may share a message."""

    accumulators_together: DirectInPort = LavaPyType(DirectInPort, np.int32, precision=CHANNEL_BITS)
    logits_together: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

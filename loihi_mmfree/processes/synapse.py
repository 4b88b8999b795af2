"""Synapses: the CPU model of stock Dense connections with ternary weights, and delayed one-to-one connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.dense.process import Dense
from lava.utils.weightutils import SignMode

from loihi_mmfree.fixedpoint.ternary import FLOAT32_EXACT_LIMIT
from loihi_mmfree.processes.scheduled import (
    CHANNEL_BITS,
    DirectInPort,
    LeanModel,
    SharedOutPort,
    silence,
    unchangeable,
)

WEIGHT_EXPONENT = -1
"""Dense drops the lowest bit of mixed-sign weights: a code w goes in as 2w and is halved after the sum."""


def ternary_dense(
    name: str, codes: np.ndarray, message_bits: int, executor: Callable[[], Any] | None = None
) -> Dense:
    """Return a stock Dense process whose weights are exactly these codes.

    Parameters
    ----------
    name : str
    codes : int8 array [rows, columns]
        -1, 0 and 1.
    message_bits : int
        Width of a message of the chip.
    executor : callable, optional
        Makes what TernaryDenseModel sums with on one message (as `ir.part.PartExecutor` does) until the host
        writes other weights; without it, the sums are done over NumPy. Other ProcessModels have no use for it.
    """
    return Dense(
        name=name,
        weights=np.left_shift(codes, -WEIGHT_EXPONENT),
        weight_exp=WEIGHT_EXPONENT,
        sign_mode=SignMode.MIXED,
        num_message_bits=message_bits,
        executor=executor,
    )


@implements(proc=Dense, protocol=LoihiProtocol)
@requires(CPU)
class TernaryDenseModel(LeanModel):
    """Computes what stock PyDenseModelBitAcc computes for `ternary_dense`, from the packed weights if it may.

    Over NumPy it uses float32 where that is exact.
    """

    s_in: DirectInPort = LavaPyType(DirectInPort, np.int32, precision=CHANNEL_BITS)
    a_out: SharedOutPort = LavaPyType(SharedOutPort, np.int32, precision=CHANNEL_BITS)
    a_buff: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=CHANNEL_BITS)
    weights: np.ndarray = LavaPyType(np.ndarray, np.int8, precision=8)
    num_message_bits: np.ndarray = LavaPyType(np.ndarray, int, precision=5)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        found = proc_params.get("weight_exp"), proc_params.get("sign_mode")
        if found != (WEIGHT_EXPONENT, SignMode.MIXED):
            raise ValueError(f"TernaryDenseModel runs what ternary_dense makes, found exponent and sign {found}")
        self._matrix: np.ndarray | None = None
        self._silence = silence(len(proc_params["weights"]))
        make = proc_params.get("executor")
        self._executor = make() if make is not None else None

    def run_spk(self) -> None:
        """Send what came in the step before, weighted and summed."""
        self.a_out.send(self.a_buff)
        messages = self.s_in.recv()
        self.a_buff = self._dot(messages) if np.count_nonzero(messages) else self._silence

    def on_var_update(self) -> None:
        """Convert the weights anew: the host may have changed them."""
        self._matrix = self._executor = None

    def _dot(self, messages: np.ndarray) -> np.ndarray:
        if self._executor is not None:
            (sums,) = self._executor.step([messages])
            return sums
        if self._matrix is None:
            self._matrix = np.right_shift(self.weights, -WEIGHT_EXPONENT).astype(np.float32)
        exact = int(np.abs(messages).max()) * messages.size < FLOAT32_EXACT_LIMIT
        number = np.float32 if exact else np.int32
        return (self._matrix.astype(number, copy=False) @ messages.astype(number)).astype(np.int32)


class Delay(AbstractProcess):
    """One-to-one connection that takes several time steps.

    Its counterpart on a chip is an identity synapse (weight 1 from each neuron to its namesake) with a delay of
    `steps` - 1 beyond the one step of any synapse: what stock DelayDense does with an identity matrix.

    Parameters
    ----------
    name : str
    size : int
    steps : int
        What enters in step t leaves in step t + steps.
    """

    def __init__(self, *, name: str, size: int, steps: int) -> None:
        super().__init__(name=name, size=size, steps=steps)
        if steps < 1:
            raise ValueError(f"{name}: a connection takes at least 1 time step, found {steps}")
        self.s_in = InPort(shape=(size,))
        self.a_out = OutPort(shape=(size,))


@implements(proc=Delay, protocol=LoihiProtocol)
@requires(CPU)
class DelayModel(LeanModel):
    """A ring of messages under way."""

    s_in: DirectInPort = LavaPyType(DirectInPort, np.int32, precision=CHANNEL_BITS)
    a_out: SharedOutPort = LavaPyType(SharedOutPort, np.int32, precision=CHANNEL_BITS)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._ring = [silence(proc_params["size"])] * proc_params["steps"]

    def run_spk(self) -> None:
        """Send the message that came `steps` steps ago, and put the new one in its place."""
        place = self.time_step % len(self._ring)
        self.a_out.send(self._ring[place])
        self._ring[place] = unchangeable(self.s_in.recv())

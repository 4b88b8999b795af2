"""What every process of ours has that must know which time steps carry a token.

The rule. Tokens enter in bursts: a burst of T tokens enters in T successive time steps, and the next burst
when the last token's logits have left, `depth` steps later. A prompt is a burst (pipelined: a token a step),
a generated token is a burst of one (fall-through). A node that sees a token `offset` steps after it entered
acts when

    (step - origin - offset) mod (T + depth) < T,    step >= origin + offset,

with the step of the first burst's first token as the origin. So a process needs four numbers: `offset` and
`depth`, fixed when the network is built, and the Var `schedule` = (origin, T), which the host writes between
runs when bursts of another length follow. All other steps are bubbles: a process sends nothing (zeros) then and
leaves its state alone. Bubbles cannot be told from tokens by what arrives: a zero vector is a valid message,
and a chip has no channel for a validity bit beside a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from loihi_mmfree.loihi2.hardware import LOIHI2

MESSAGE_BITS = LOIHI2.message_bits.value
TAKEN_NAMES = frozenset((*dir(PyLoihiProcessModel({})), "counters"))
"""What a port or a state cannot be called, because a ProcessModel has something else of that name."""
_NO_PORTS = frozenset({int, bool, str, list, np.ndarray})


class ScheduledProcess(AbstractProcess):
    """Base of the processes that act in their own time steps only.

    Parameters
    ----------
    name : str
        Of the node.
    inputs, outputs : mapping port -> number of elements
    states : mapping Var -> number of elements
        Kept from token to token; zero at the start.
    offset : int
        Time steps from a token's entry until it arrives here.
    depth : int
        Time steps from a token's entry until its logits leave.
    **parameters
        For the ProcessModel.

    Attributes
    ----------
    schedule : Var [2]
        Time step in which the first token of the first burst enters, and tokens in a burst.
    """

    def __init__(
        self,
        *,
        name: str,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        states: Mapping[str, int],
        offset: int,
        depth: int,
        **parameters: Any,
    ) -> None:
        super().__init__(
            name=name,
            inputs=tuple(inputs),
            outputs=dict(outputs),
            states=tuple(states),
            offset=offset,
            depth=depth,
            **parameters,
        )
        self.schedule = Var(shape=(2,), init=np.array([0, 1]))
        for port, size in inputs.items():
            self._add(port, InPort(shape=(size,)))
        for port, size in outputs.items():
            self._add(port, OutPort(shape=(size,)))
        for state, size in states.items():
            self._add(state, Var(shape=(size,), init=0))

    def _add(self, name: str, member: InPort | OutPort | Var) -> None:
        if hasattr(self, name) or name in TAKEN_NAMES:
            raise ValueError(f"{self.name}: {name!r} cannot be a port or a state: the name is taken")
        setattr(self, name, member)


class LeanModel(PyLoihiProcessModel):
    """A ProcessModel that does not ask of every number it keeps whether it is a port, as Lava's do."""

    def __setattr__(self, key: str, value: Any) -> None:
        if type(value) in _NO_PORTS:
            self.__dict__[key] = value
        else:
            super().__setattr__(key, value)


class ScheduledModel(LeanModel):
    """Base of their ProcessModels: receives in every step, computes in its own, sends in the same step."""

    schedule: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._silence = {port: np.zeros(size, dtype=np.int32) for port, size in proc_params["outputs"].items()}

    @property
    def acts(self) -> bool:
        """Whether the current time step carries a token for this process."""
        origin, tokens = self.schedule
        since = self.time_step - 1 - origin - self.proc_params["offset"]
        return bool(since >= 0 and since % (tokens + self.proc_params["depth"]) < tokens)

    def run_spk(self) -> None:
        """Receive from all inputs, and send what `compute` makes of it, or nothing."""
        received = {port: getattr(self, port).recv() for port in self.proc_params["inputs"]}
        messages = self.compute(received) if self.acts else self._silence
        for port, message in messages.items():
            getattr(self, port).send(message)

    def compute(self, received: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Return the message of every output for one token."""
        raise NotImplementedError


@lru_cache(maxsize=1024)
def model_with_ports(
    base: type[ScheduledModel], inputs: tuple[str, ...], outputs: tuple[str, ...], states: tuple[str, ...]
) -> type[ScheduledModel]:
    """Return a ProcessModel like `base` that declares these ports and states, as Lava asks of a class."""
    members: dict[str, LavaPyType] = {}
    for port in inputs:
        members[port] = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=MESSAGE_BITS)
    for port in outputs:
        members[port] = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=MESSAGE_BITS)
    for state in states:
        members[state] = LavaPyType(np.ndarray, np.int64)
    return type(base.__name__, (base,), {"__module__": base.__module__, **members})

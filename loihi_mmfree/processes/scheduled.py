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

Where all of a network is one process and a token passes it in one time step, nothing is lost if tokens share a
message: with `together` above 1 every port has a second one for so many rows, and a burst of T > 1 tokens is one
message there, of which the first T rows count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import (
    IdentityTransformer,
    PyInPortVectorDense,
    PyOutPort,
    PyOutPortVectorDense,
)
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.runtime.mgmt_token_enums import MGMT_COMMAND, MGMT_RESPONSE

CHANNEL_BITS = 32
"""Width of what the simulation's channels carry; that a chip's messages hold it is proved beforehand."""
TAKEN_NAMES = frozenset((*dir(PyLoihiProcessModel({})), "counters"))
"""What a port or a state cannot be called, because a ProcessModel has something else of that name."""
TOGETHER = "_together"
"""What the port for many tokens has behind the name of the port for one."""
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
    together : int
        Most tokens that a message carries; above 1 at depth 0 only.
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
        together: int = 1,
        **parameters: Any,
    ) -> None:
        super().__init__(
            name=name,
            inputs=tuple(inputs),
            outputs=dict(outputs),
            states=tuple(states),
            offset=offset,
            depth=depth,
            together=together,
            **parameters,
        )
        self.schedule = Var(shape=(2,), init=np.array([0, 1]))
        for port, shape in port_shapes(inputs, together).items():
            self._add(port, InPort(shape=shape))
        for port, shape in port_shapes(outputs, together).items():
            self._add(port, OutPort(shape=shape))
        for state, size in states.items():
            self._add(state, Var(shape=(size,), init=0))

    def _add(self, name: str, member: InPort | OutPort | Var) -> None:
        if hasattr(self, name) or name in TAKEN_NAMES:
            raise ValueError(f"{self.name}: {name!r} cannot be a port or a state: the name is taken")
        setattr(self, name, member)


def port_shapes(sizes: Mapping[str, int], together: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every port for messages of these sizes, and of its second one for many tokens."""
    many = {port + TOGETHER: (together, size) for port, size in sizes.items()} if together > 1 else {}
    return {**{port: (size,) for port, size in sizes.items()}, **many}


class DirectInPort(PyInPortVectorDense):
    """Hands a message over as it comes, where only one connection ends: stock ports add each to zeros first.

    Others may have the same message: it must not be changed.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._take: Callable[[], np.ndarray] | None = None
        if len(self._csp_ports) == 1 and type(self._transformer) is IdentityTransformer:
            (port,) = self._csp_ports
            self._take = getattr(port, "take", port.recv)

    def recv(self) -> np.ndarray:
        """Return the message, or the sum of the messages, and wait for them."""
        return super().recv() if self._take is None else self._take()


class SharedOutPort(PyOutPortVectorDense):
    """Sends one read-only copy to all receivers, who may share it: stock ports have every channel make its own.

    An array that owns its memory and is read-only is sent itself: no ProcessModel of ours makes it writeable
    again.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._share = [getattr(port, "share", port.send) for port in self._csp_ports]

    def send(self, data: np.ndarray) -> None:
        """Send a message; the array may be used again."""
        if data.flags.writeable or data.base is not None:
            if len(self._share) == 1:
                self._csp_ports[0].send(data)
                return
            data = unchangeable(np.array(data, dtype=self._d_type))
        for share in self._share:
            share(data)


def unchangeable(message: np.ndarray) -> np.ndarray:
    """Make an array read-only for good, so that channels within a process need not copy it, and return it."""
    message.flags.writeable = False
    return message


def silence(size: int) -> np.ndarray:
    """Return what is sent in a time step that carries no token, int32 [size]."""
    return unchangeable(np.zeros(size, dtype=np.int32))


_SPIKE, _STOP = PyLoihiProcessModel.Phase.SPK.item(), MGMT_COMMAND.STOP.item()
_DONE = unchangeable(PyLoihiProcessModel.Response.STATUS_DONE.copy())


class LeanModel(PyLoihiProcessModel):
    """A ProcessModel without learning and without a pause of its own.

    It speaks the protocol of its base class. While nobody watches its Vars and all its channels are between Python
    processes, a time step takes a third of the base class's Python.
    """

    def __setattr__(self, key: str, value: Any) -> None:
        # Lava's own asks of every value, each time, whether it is a port it does not know yet.
        if type(value) in _NO_PORTS:
            self.__dict__[key] = value
        else:
            super().__setattr__(key, value)

    def prepare(self) -> bool:
        """Get ready, when all ports and Vars are there.

        Returns
        -------
        bool
            Whether to `carry_out` commands is all there is to do: nobody watches a Var, no channel has a clock.
        """
        self._answer = getattr(self.process_to_service, "share", self.process_to_service.send)
        channels = [channel for port in self.py_ports for channel in port.csp_ports]
        return not self.var_ports and not any(hasattr(each, "advance_to_time_step") for each in channels)

    def run(self) -> None:
        """Carry out commands until told to stop."""
        if not self.prepare():
            super().run()
            return
        command = None
        while command != _STOP:
            command = self.service_to_process.recv().item()
            self.carry_out(command)

    def carry_out(self, command: float) -> None:
        """Carry out one command of the runtime service."""
        try:
            if command == _SPIKE:
                self.time_step += 1
                self.run_spk()
                self._answer(_DONE)
            else:
                self._cmd_handlers[command]()
        except Exception:
            self.process_to_service.send(MGMT_RESPONSE.ERROR)
            self.join()
            raise


class ScheduledModel(LeanModel):
    """Base of their ProcessModels: receives in every step, computes in its own, sends in the same step.

    Attributes
    ----------
    carried : int
        Tokens of a message: 1, and the message is a vector; or more, and they are the first rows of a matrix.
    """

    schedule: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._silence = {port: silence(size) for port, size in proc_params["outputs"].items()}
        self._outputs: list[str] = []
        self._receivers: list[tuple[str, Callable[[], np.ndarray]]] = []
        self._senders: dict[str, Callable[[np.ndarray], None]] = {}

    def prepare(self) -> bool:
        """Get ready, when all ports and Vars are there."""
        ports = [name for name, each in vars(self).items() if isinstance(each, PyOutPort)]
        self._outputs = [name for name in ports if not name.endswith(TOGETHER)]
        self.on_var_update()
        return super().prepare()

    def on_var_update(self) -> None:
        """Take the schedule anew: the host may have changed it."""
        origin, self._tokens = self.schedule.tolist()
        self._first = origin + self.proc_params["offset"] + 1
        self._period = self._tokens + self.proc_params["depth"]
        self.carried = self._tokens if self.proc_params.get("together", 1) > 1 else 1
        self._receivers = [(port, self.port(port).recv) for port in self.proc_params["inputs"]]
        self._senders = {port: self.port(port).send for port in self._outputs}

    def port(self, name: str) -> Any:
        """Return the port of a name for messages of as many tokens as they carry now."""
        return getattr(self, name if self.carried == 1 else name + TOGETHER)

    @property
    def acts(self) -> bool:
        """Whether the current time step carries a token for this process."""
        since = self.time_step - self._first
        return since >= 0 and since % self._period < self._tokens

    def run_spk(self) -> None:
        """Receive from all inputs, and send what `compute` makes of it, or nothing."""
        received = {port: receive() for port, receive in self._receivers}
        messages = self.compute(received) if self.acts else self._silence
        for port, message in messages.items():
            self._senders[port](message)

    def compute(self, received: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Return the message of every output for one token."""
        raise NotImplementedError


@lru_cache(maxsize=1024)
def model_with_ports(
    base: type[ScheduledModel],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    states: tuple[str, ...],
    message_bits: int,
) -> type[ScheduledModel]:
    """Return a ProcessModel like `base` that declares these ports and states, as Lava asks of a class."""
    members: dict[str, LavaPyType] = {}
    for port in inputs:
        members[port] = LavaPyType(DirectInPort, np.int32, precision=message_bits)
    for port in outputs:
        members[port] = LavaPyType(SharedOutPort, np.int32, precision=message_bits)
    for state in states:
        members[state] = LavaPyType(np.ndarray, np.int64)
    return type(base.__name__, (base,), {"__module__": base.__module__, **members})

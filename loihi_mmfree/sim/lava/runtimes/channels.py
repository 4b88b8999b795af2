"""Lava's channels between actors of one OS process: a queue of arrays, and nothing to copy twice.

The ports keep the contract of `lava.magma.compiler.channels.pypychannel`: a channel has a size, a send to a
full channel and a receive from an empty one block, a message has the channel's shape and is cast to its type,
and nobody changes it behind the receiver's back: the receiver gets a copy in C order that is its own, whatever the
sender made of its array. Our own ProcessModels do without the copies. What one of them shares it will never
change, and what one of them takes it will not change either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from lava.magma.compiler.channels.interfaces import Channel, ChannelType
from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSendPort, Proto
from lava.utils.sparse import find
from scipy.sparse import csr_matrix

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.sim.lava.runtimes.scheduler import Actor, Scheduler


class InProcessSendPort(CspSendPort):
    """The end of a channel that sends. Lava's builders tell the ends apart by their base class."""

    waiter: Actor | None = None
    label = ""
    receiver: InProcessRecvPort

    def __init__(
        self, name: str, proto: Proto, size: int, scheduler: Scheduler, messages: deque[np.ndarray]
    ) -> None:
        super().__init__(name, None, proto, size, None, None, None, None)
        self._kind = np.dtype(proto.dtype)
        self._scheduler = scheduler
        self._messages = messages

    def start(self) -> None:
        """Do nothing: there is no thread to start."""

    def join(self) -> None:
        """Do nothing: there is no thread to end."""

    def is_ready(self) -> bool:
        """Whether the channel has room."""
        return len(self._messages) < self._size

    def pending(self) -> str:
        """Say what somebody who waits for this port waits for."""
        return f"to send on {self.label}, which is full ({self._size} messages)"

    def probe(self) -> bool:
        """Whether a send would not block."""
        if not self.is_ready():
            self._scheduler.poll()
        return self.is_ready()

    def send(self, data: np.ndarray) -> None:
        """Send a copy of data. Blocks while the channel is full."""
        if data.shape != self._shape:
            raise AssertionError(
                f"a message of shape {data.shape} was sent on {self.label or self._name}, "
                f"which carries shape {self._shape}"
            )
        if type(data) is not np.ndarray and isinstance(data, csr_matrix):
            message = np.empty(self._shape, self._dtype)
            message[:] = find(data, explicit_zeros=True)[2]
        else:
            message = np.array(data, dtype=self._kind, order="C")
        self._put(message)

    def share(self, data: np.ndarray) -> None:
        """Send data itself, which is read-only and never changes again. Blocks while the channel is full."""
        if data.shape == self._shape and data.dtype == self._kind:
            self._put(data)
        else:
            self.send(data)

    def _put(self, message: np.ndarray) -> None:
        if len(self._messages) >= self._size:
            self._scheduler.wait(self)
        self._messages.append(message)
        waiter = self.receiver.waiter
        if waiter is not None:
            self._scheduler.wake(waiter)


class InProcessRecvPort(CspRecvPort):
    """The end of a channel that receives."""

    waiter: Actor | None = None
    label = ""
    sender: InProcessSendPort

    def __init__(
        self, name: str, proto: Proto, size: int, scheduler: Scheduler, messages: deque[np.ndarray]
    ) -> None:
        super().__init__(name, None, proto, size, None, None, None, None)
        self._scheduler = scheduler
        self._messages = messages
        # Lava's injector and extractor ask a port's queue for its length.
        self._queue = self

    def start(self) -> None:
        """Do nothing: there is no thread to start."""

    def join(self) -> None:
        """Do nothing: there is no thread to end."""

    def is_ready(self) -> bool:
        """Whether a message is there."""
        return bool(self._messages)

    def pending(self) -> str:
        """Say what somebody who waits for this port waits for."""
        return f"to receive on {self.label}" if self.label else "for the run to end"

    def probe(self) -> bool:
        """Whether a receive would not block."""
        if not self._messages:
            self._scheduler.poll()
        return bool(self._messages)

    def qsize(self) -> int:
        """Count the messages that are there."""
        self.probe()
        return len(self._messages)

    def peek(self) -> np.ndarray:
        """Look at the next message without taking it. Blocks while there is none."""
        if not self._messages:
            self._scheduler.wait(self)
        return self._messages[0].copy()

    def recv(self) -> np.ndarray:
        """Receive the next message, as an array of one's own. Blocks while there is none."""
        message = self.take()
        return message if message.flags.writeable else message.copy()

    def take(self) -> np.ndarray:
        """Receive the next message, which others may share: not to be changed. Blocks while there is none."""
        if not self._messages:
            self._scheduler.wait(self)
        message = self._messages.popleft()
        waiter = self.sender.waiter
        if waiter is not None:
            self._scheduler.wake(waiter)
        return message


class HostSendPort(InProcessSendPort):
    """An end at the host, of a channel into the network."""

    def probe(self) -> bool:
        """Whether a send would not block."""
        self._scheduler.require_host()
        return super().probe()

    def send(self, data: np.ndarray) -> None:
        """Send a copy of data. The network runs while the channel is full."""
        self._scheduler.require_host()
        super().send(data)


class HostRecvPort(InProcessRecvPort):
    """An end at the host, of a channel out of the network."""

    def probe(self) -> bool:
        """Whether a receive would not block."""
        self._scheduler.require_host()
        return super().probe()

    def peek(self) -> np.ndarray:
        """Look at the next message without taking it. The network runs while there is none."""
        self._scheduler.require_host()
        return super().peek()

    def recv(self) -> np.ndarray:
        """Receive the next message. The network runs while there is none."""
        self._scheduler.require_host()
        return super().recv()


class InProcessChannel(Channel):
    """A channel and its two ends, made the way that Lava's channel builders make a PyPyChannel."""

    source_class, destination_class = InProcessSendPort, InProcessRecvPort

    def __init__(
        self,
        message_infrastructure: InProcessInfrastructure,
        src_name: str,
        dst_name: str,
        shape: tuple[int, ...],
        dtype: type,
        size: int,
        *watchdogs: Any,
    ) -> None:
        scheduler = message_infrastructure.scheduler
        proto = Proto(shape=shape, dtype=dtype, nbytes=0)
        messages: deque[np.ndarray] = deque()
        self._src_port = self.source_class(src_name, proto, size, scheduler, messages)
        self._dst_port = self.destination_class(dst_name, proto, size, scheduler, messages)
        self._src_port.receiver = self._dst_port
        self._dst_port.sender = self._src_port

    @property
    def src_port(self) -> InProcessSendPort:
        """The end that sends."""
        return self._src_port

    @property
    def dst_port(self) -> InProcessRecvPort:
        """The end that receives."""
        return self._dst_port


class ChannelFromHost(InProcessChannel):
    """A channel whose sending end is the host's."""

    source_class = HostSendPort


class ChannelToHost(InProcessChannel):
    """A channel whose receiving end is the host's."""

    destination_class = HostRecvPort


class InProcessSelector:
    """Waits for the first of several ports to get ready, in the place of Lava's CspSelector."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def select(self, *channel_actions: tuple[InProcessSendPort | InProcessRecvPort, Callable[[], Any]]) -> Any:
        """Wait until a port is ready, then return what its action returns; the first listed goes first."""
        while True:
            for port, action in channel_actions:
                if port.is_ready():
                    return action()
            self._scheduler.wait(*[port for port, _ in channel_actions])


class InProcessInfrastructure:
    """Where Lava's channel builders ask for the class of a channel, in the place of Lava's MultiProcessing."""

    def __init__(self) -> None:
        self.scheduler = Scheduler()

    def stop(self) -> None:
        """End all actors where they stand."""
        self.scheduler.end()

    def channel_class(self, channel_type: ChannelType) -> type[Channel]:
        """Return the class of channels between Python ProcessModels, the only ones here.

        Raises
        ------
        SimulationError
            For a channel from or to a Loihi core.
        """
        if channel_type != ChannelType.PyPy:
            raise SimulationError(
                f"found a channel of type {channel_type!r}, which needs Loihi hardware; the CPU simulation runs "
                "Python ProcessModels only: choose a run configuration such as Loihi2SimCfg"
            )
        return InProcessChannel

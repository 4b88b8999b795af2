"""Who runs next: a ProcessModel, a RuntimeService, or the host that called them. One of them at a time.

Lava's actors are sequential programs that block on channels. Here each is a greenlet: when it blocks, the
next one that can continue takes over, first come first served, so that a run is deterministic. When nobody
can continue, the host gets its turn back; if the host itself waits for a message then, that message can never
come, and the deadlock is reported instead of hanging.

Our own ProcessModels rest between two commands with nothing to remember on a stack. Such an attendant borrows a
greenlet for as long as it works on a command: mostly that is the one in which the attendant before it has just
finished, so that a time step of a thousand processes is a loop of calls and not a thousand switches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy as np
from greenlet import GreenletExit, getcurrent, greenlet

from loihi_mmfree.errors import SimulationError

REPORTED_WAITS = 8
"""A deadlock report lists this many waiting processes, and the number of the others."""


class Waitable(Protocol):
    """A port, as the scheduler sees it."""

    waiter: Actor | None
    label: str

    def is_ready(self) -> bool:
        """Whether the port's next operation can be carried out at once."""

    def pending(self) -> str:
        """Say what somebody who waits for this port waits for."""


class CommandPort(Waitable, Protocol):
    """A port on which commands come."""

    def recv(self) -> np.ndarray:
        """Take the next command."""


class Attendant(Protocol):
    """A ProcessModel that does nothing but carry out commands."""

    service_to_process: CommandPort

    def carry_out(self, command: float) -> None:
        """Carry out one command."""


class Actor:
    """Somebody who sends and receives: a ProcessModel, a RuntimeService, or the host.

    Attributes
    ----------
    name : str
        How messages to the user call it.
    greenlet : greenlet.greenlet, optional
        Its thread of control; none for an attendant at rest.
    waiting_for : tuple of Waitable
        The ports of which one has to get ready before it can continue; empty if it can.
    """

    __slots__ = ("greenlet", "name", "waiting_for")

    def __init__(self, name: str, control: greenlet | None) -> None:
        self.name = name
        self.greenlet = control
        self.waiting_for: tuple[Waitable, ...] = ()


class AttendingActor(Actor):
    """An attendant, with or without a borrowed greenlet."""

    __slots__ = ("attendant",)

    def __init__(self, name: str, attendant: Attendant) -> None:
        super().__init__(name, None)
        self.attendant = attendant


class Scheduler:
    """Runs actors one at a time. Whoever creates it is the host, and has to stay in the same thread."""

    def __init__(self) -> None:
        self._host = Actor("the host", getcurrent())
        self._running = self._host
        self._ready: deque[Actor] = deque()
        self._actors: list[Actor] = []
        self._idle: list[greenlet] = []
        self.is_ended = False

    def spawn(self, name: str, body: Any) -> None:
        """Start an actor and let it run until it first waits.

        Parameters
        ----------
        name : str
            How messages to the user call it.
        body : AbstractPyProcessModel or AbstractRuntimeService
            What it does: `body.start()`.

        Raises
        ------
        SimulationError
            If it fails.
        """
        actor = Actor(name, greenlet(lambda: _perform(name, body), self._host.greenlet))
        self._actors.append(actor)
        self._run(actor)

    def attend(self, name: str, attendant: Attendant) -> None:
        """Have somebody carry out the commands that come from now on."""
        actor = AttendingActor(name, attendant)
        self._actors.append(actor)
        self._rest(actor)

    def wait(self, *ports: Waitable) -> None:
        """Let others run until one of the ports is ready.

        Raises
        ------
        SimulationError
            In the host: an actor failed, or the ports can never get ready. All actors have ended then.
        """
        me = self._running
        me.waiting_for = ports
        for port in ports:
            port.waiter = me
        if me is self._host:
            self._wait_as_host()
        else:
            while me.waiting_for:
                self._pass_turn()
            self._running = me

    def wake(self, actor: Actor) -> None:
        """Note that an actor which waits can continue. Called when one of its ports gets ready."""
        for port in actor.waiting_for:
            port.waiter = None
        actor.waiting_for = ()
        if actor is not self._host:
            self._ready.append(actor)

    def poll(self) -> None:
        """Give each other actor that can run a turn.

        Called before somebody is told that a port is not ready, so that a loop which asks again and again ends.
        """
        me = self._running
        if me is self._host:
            for _ in range(len(self._ready)):
                self._run(self._ready.popleft())
        elif self._ready or not self._host.waiting_for:
            self._ready.append(me)
            self._pass_turn()
            self._running = me

    def end(self) -> None:
        """End all actors where they stand. For the host only; does nothing the second time."""
        self.is_ended = True
        actors, self._actors = self._actors, []
        idle, self._idle = self._idle, []
        self._ready.clear()
        for actor in (*actors, *(Actor("", each) for each in idle)):
            if actor.greenlet is not None and not actor.greenlet.dead:
                self._running = actor
                with suppress(Exception):  # what its cleanup raises must not keep the others alive
                    actor.greenlet.throw(GreenletExit)
        self._running = self._host

    def _pass_turn(self) -> None:
        """Let another one continue, in an actor. The host comes first if it can, or if nobody else can."""
        self._switch_to(self._next())

    def _next(self) -> Actor:
        return self._ready.popleft() if self._ready and self._host.waiting_for else self._host

    def _switch_to(self, actor: Actor) -> None:
        self._running = actor
        if actor.greenlet is None:
            actor.greenlet = self._idle.pop() if self._idle else greenlet(self._work, self._host.greenlet)
        actor.greenlet.switch()

    def _rest(self, actor: AttendingActor) -> None:
        """Let an attendant wait for its next command, without a greenlet."""
        actor.greenlet = None
        port = actor.attendant.service_to_process
        if port.is_ready():
            self._ready.append(actor)
        else:
            actor.waiting_for = (port,)
            port.waiter = actor

    def _work(self) -> None:
        """What a borrowed greenlet does: have attendants carry out a command each."""
        me = getcurrent()
        while True:
            actor = self._running
            assert isinstance(actor, AttendingActor)
            attendant = actor.attendant
            try:
                attendant.carry_out(attendant.service_to_process.recv().item())
            except Exception as error:
                raise _failure(actor.name, attendant, error) from error
            self._rest(actor)
            other = self._next()
            if other.greenlet is None:
                other.greenlet = me
                self._running = other
            else:
                self._idle.append(me)
                self._switch_to(other)

    def _wait_as_host(self) -> None:
        while self._host.waiting_for:
            if not self._ready:
                report = self._deadlock()
                self.end()
                raise SimulationError(report)
            self._run(self._ready.popleft())

    def _run(self, actor: Actor) -> None:
        """Give an actor its turn, in the host. What it raises (Ctrl-C may come in it) ends all."""
        try:
            self._switch_to(actor)
        except BaseException:
            self.end()
            raise
        finally:
            self._running = self._host

    def _deadlock(self) -> str:
        goal = " or ".join(port.pending() for port in self._host.waiting_for)
        if self.is_ended:
            return f"the host waits {goal}, but the network has ended: build it anew to run it again"
        stuck = [
            f"{actor.name} waits {actor.waiting_for[0].pending()}"
            for actor in self._actors
            if actor.waiting_for and all(port.label for port in actor.waiting_for)
        ]
        if not stuck:
            return f"the host waits {goal}, but every process is at rest: more was asked for than the run sends"
        listed = "; ".join(stuck[:REPORTED_WAITS])
        more = f"; and {len(stuck) - REPORTED_WAITS} more" if len(stuck) > REPORTED_WAITS else ""
        return (
            f"deadlock: the host waits {goal}, but no process can continue: {listed}{more}. "
            "Every cycle of processes needs a synapse (one time step of delay), every receive a send, "
            "and the host has to take what an external pipe cannot hold"
        )


@contextmanager
def failures_named(name: str, body: Any = None) -> Iterator[None]:
    """Raise what fails within this block as a SimulationError that names the actor and its time step."""
    try:
        yield
    except Exception as error:
        raise _failure(name, body, error) from error


def _failure(name: str, body: Any, error: Exception) -> SimulationError:
    time_step = getattr(body, "time_step", 0)
    when = f" in time step {time_step}" if time_step else ""
    return SimulationError(f"{name} failed{when}: {type(error).__name__}: {error}")


def _perform(name: str, body: Any) -> None:
    with failures_named(name, body):
        body.start()

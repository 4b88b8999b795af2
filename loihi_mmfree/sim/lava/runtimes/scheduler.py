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

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy as np
from greenlet import GreenletExit, getcurrent, greenlet

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.sim.lava.runtimes.random_streams import RandomStreams

REPORTED_WAITS = 8
"""A deadlock report lists this many waiting processes, and the number of the others."""


class DeadlockError(SimulationError):
    """The host waits for what can never come."""


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

    def take(self) -> np.ndarray:
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
    commands : bool
        Whether it is a service, which tells others to begin with a phase of a time step.
    greenlet : greenlet.greenlet, optional
        Its thread of control; none for an attendant at rest.
    attendant : Attendant, optional
        What carries out commands with a borrowed greenlet, if that is all the actor does.
    waiting_for : tuple of Waitable
        The ports of which one has to get ready before it can continue; empty if it can.
    """

    __slots__ = ("attendant", "commands", "greenlet", "name", "waiting_for")

    def __init__(self, name: str, commands: bool = False) -> None:
        self.name = name
        self.commands = commands
        self.greenlet: greenlet | None = None
        self.attendant: Attendant | None = None
        self.waiting_for: tuple[Waitable, ...] = ()


class Scheduler:
    """Runs actors one at a time. Whoever creates it is the host, and has to stay in the same thread."""

    def __init__(self) -> None:
        self._host = Actor("the host")
        self._host.greenlet = getcurrent()
        self._thread = threading.current_thread().name
        self._running = self._host
        self._ready: deque[Actor] = deque()
        self._actors: list[Actor] = []
        self._idle: list[greenlet] = []
        self._random = RandomStreams()
        self._runs_dry = False
        self._deadline: float | None = None
        self._relieve: Callable[[], bool] | None = None
        self.is_ended = False

    def require_host(self) -> None:
        """Raise SimulationError unless the host is the caller: greenlets belong to a thread."""
        if getcurrent() is not self._host.greenlet:
            raise SimulationError(
                f"a network in one process is driven by the thread that built it, {self._thread!r}; this is "
                f"{threading.current_thread().name!r}, or a ProcessModel of the network: call it from there, or "
                "build the network in the thread that runs it"
            )

    @contextmanager
    def building(self, actor: Actor) -> Iterator[None]:
        """Within this block, which the host runs for an actor, draw random numbers from the actor's stream."""
        self._random.exchange(self._host, actor)
        try:
            yield
        finally:
            self._random.exchange(actor, self._host)

    def spawn(self, actor: Actor, body: Any) -> None:
        """Start an actor and let it run until it first waits.

        Parameters
        ----------
        actor : Actor
        body : AbstractPyProcessModel or AbstractRuntimeService
            What it does: `body.start()`.

        Raises
        ------
        SimulationError
            If it fails.
        """
        actor.greenlet = greenlet(lambda: _perform(actor.name, body), self._host.greenlet)
        self._actors.append(actor)
        self._run(actor)

    def attend(self, actor: Actor, attendant: Attendant) -> None:
        """Have an actor carry out the commands that come from now on."""
        actor.attendant = attendant
        self._actors.append(actor)
        self._rest(actor, attendant)

    def wait(self, *ports: Waitable) -> None:
        """Let others run until one of the ports is ready.

        Raises
        ------
        SimulationError
            In the host: an actor failed, or the ports can never get ready. All actors have ended then.
        """
        me = self._running
        if getcurrent() is not me.greenlet:
            self.require_host()
        me.waiting_for = ports
        for port in ports:
            port.waiter = me
        if me is self._host:
            self._wait_as_host()
        else:
            while me.waiting_for:
                self._pass_turn()
            self._running = me

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Within this block, what the host waits for longer than this can never come."""
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = None

    @contextmanager
    def relieved_by(self, relieve: Callable[[], bool]) -> Iterator[None]:
        """Within this block, before a deadlock is reported, ask for something that lets actors go on.

        `relieve` returns whether it found anything.
        """
        self._relieve = relieve
        try:
            yield
        finally:
            self._relieve = None

    def waiting(self) -> list[Actor]:
        """Return the actors that wait."""
        return [actor for actor in self._actors if actor.waiting_for]

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
        if getcurrent() is not me.greenlet:
            self.require_host()
        if me is self._host:
            for _ in range(len(self._ready)):
                self._run(self._ready.popleft())
        elif self._runs_dry:
            raise GreenletExit
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
        living = ((actor, actor.greenlet) for actor in actors if actor.greenlet is not None)
        for actor, control in (*living, *((Actor(""), each) for each in idle)):
            if not control.dead:
                self._random.exchange(self._running, actor)
                self._running = actor
                with suppress(Exception):  # what its cleanup raises must not keep the others alive
                    control.throw(GreenletExit)
        self._return_to_host()

    def _pass_turn(self) -> None:
        """Let another one continue, in an actor. The host comes first if it can, or if nobody else can."""
        self._switch_to(self._next())

    def _next(self) -> Actor:
        return self._ready.popleft() if self._ready and self._host.waiting_for else self._host

    def _switch_to(self, actor: Actor) -> None:
        random = self._random
        if random.own or random.words[1] != random.word or random.words[624] != random.position:
            random.exchange(self._running, actor)
        self._running = actor
        control = actor.greenlet
        if control is None:
            control = actor.greenlet = (
                self._idle.pop() if self._idle else greenlet(self._work, self._host.greenlet)
            )
        control.switch()

    def _return_to_host(self) -> None:
        self._random.exchange(self._running, self._host)
        self._running = self._host

    def _rest(self, actor: Actor, attendant: Attendant) -> None:
        """Let an attendant wait for its next command, without a greenlet."""
        actor.greenlet = None
        port = attendant.service_to_process
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
            attendant = actor.attendant
            assert attendant is not None
            try:
                attendant.carry_out(attendant.service_to_process.take().item())
            except Exception as error:
                raise _failure(actor.name, attendant, error) from error
            self._rest(actor, attendant)
            other = self._next()
            if other.greenlet is None:
                other.greenlet = me
                self._running = other
            else:
                self._idle.append(me)
                self._switch_to(other)

    def _wait_as_host(self) -> None:
        while self._host.waiting_for:
            late = self._deadline is not None and time.monotonic() > self._deadline
            if not (self._ready or self.is_ended) and self._relieve is not None and self._relieve():
                continue
            if late or not self._ready:
                report = self._deadlock()
                self.end()
                raise DeadlockError(report)
            self._run(self._ready.popleft())

    def _run(self, actor: Actor) -> None:
        """Give an actor its turn, in the host. What it raises (Ctrl-C may come in it) ends all."""
        try:
            try:
                self._switch_to(actor)
            except SimulationError as failure:
                raise _together([failure, *self._run_dry()]) from failure.__cause__
        except BaseException:
            self.end()
            raise
        finally:
            self._return_to_host()

    def _run_dry(self) -> list[SimulationError]:
        """Let everyone go on as far as possible without another command, and return the failures of that.

        So all processes that fail in one time step are reported, as stock Lava does.
        """
        self._host.waiting_for = ()  # Each turn comes back to the host.
        self._runs_dry = True
        failures = []
        while self._ready:
            self._return_to_host()
            actor = self._ready.popleft()
            if actor.commands:
                continue
            try:
                self._switch_to(actor)
            except SimulationError as failure:
                failures.append(failure)
        return failures

    def _deadlock(self) -> str:
        goal = " or ".join(port.pending() for port in self._host.waiting_for)
        if self.is_ended:
            return f"the host waits {goal}, but the network has ended: build it anew to run it again"
        stuck = [
            f"{actor.name} waits {actor.waiting_for[0].pending()}"
            for actor in self.waiting()
            if all(port.label for port in actor.waiting_for)
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


def _together(failures: list[SimulationError]) -> SimulationError:
    """One error that says them all."""
    if len(failures) == 1:
        return failures[0]
    return SimulationError(f"{len(failures)} processes failed: " + "; ".join(map(str, failures)))


def _perform(name: str, body: Any) -> None:
    with failures_named(name, body):
        body.start()

"""Time and energy of a workload on Loihi 2: pure functions of what is counted and of the model's parameters.

A step lasts as long as its slowest core, or the busiest link, plus the barrier that ends it. The
stages of a core (messages in, synapses, neurons, messages out) work side by side, so a core takes as long as its
slowest stage: models of Loihi 2 that were held against measurements have this form (Timcheck et al. 2026,
arXiv:2601.10035; Yik et al. 2025, arXiv:2511.21549). Energy is the static power of the chips for as long as a
token takes, plus a price for each event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loihi_mmfree.cost.parameters import ModelParameters
from loihi_mmfree.cost.workload import CoreLoad, Events, StepLoad, Workload

PHASES = ("prefill", "generate")


@dataclass(frozen=True)
class Phase:
    """What a token takes in one phase of inference, prefill or generate.

    Parameters
    ----------
    seconds_per_token : float
    static_joules, dynamic_joules : float
        A token, for the chips in use.
    shares : mapping what -> float
        Shares of the time: the barrier, and what steps wait for, a stage of their slowest core or a link.
    """

    seconds_per_token: float
    static_joules: float
    dynamic_joules: float
    shares: Mapping[str, float]

    @property
    def main_shares(self) -> dict[str, float]:
        """The shares that are worth naming: half a percent or more."""
        return {what: share for what, share in self.shares.items() if share >= 0.005}

    @property
    def tokens_per_s(self) -> float:
        """Throughput."""
        return 1 / self.seconds_per_token

    @property
    def millijoules_per_token(self) -> float:
        """Static and dynamic energy."""
        return 1e3 * (self.static_joules + self.dynamic_joules)

    @property
    def watts(self) -> float:
        """Mean power."""
        return (self.static_joules + self.dynamic_joules) / self.seconds_per_token


@dataclass(frozen=True)
class Prediction:
    """Both phases."""

    prefill: Phase
    generate: Phase


def predict(workload: Workload, parameters: ModelParameters) -> Prediction:
    """Return time and energy of a token, in the steady state of each phase.

    Prefill is pipelined: a token enters every step, and all groups are at work. Generate is fall-through: a token
    passes all steps alone, because the next one is not known before.
    """
    return Prediction(
        _phase((workload.pipelined,), workload, parameters), _phase(workload.steps, workload, parameters)
    )


def _phase(steps: tuple[StepLoad, ...], workload: Workload, parameters: ModelParameters) -> Phase:
    spent: dict[str, float] = {"barrier": barrier_seconds(workload.chips, parameters) * len(steps)}
    for step in steps:
        what, seconds = _slowest(step, parameters)
        spent[what] = spent.get(what, 0.0) + seconds
    total = sum(spent.values())
    return Phase(
        seconds_per_token=total,
        static_joules=parameters.static_power.si * workload.chips * total,
        dynamic_joules=event_joules(workload.events, parameters),
        shares={what: seconds / total for what, seconds in sorted(spent.items(), key=lambda each: -each[1])},
    )


def _slowest(step: StepLoad, parameters: ModelParameters) -> tuple[str, float]:
    """What a step waits for, and how long."""
    candidates = [("links", link_seconds(step, parameters))]
    for core in step.cores:
        candidates += stage_seconds(core, parameters).items()
    return max(candidates, key=lambda each: each[1])


def core_seconds(load: CoreLoad, parameters: ModelParameters) -> float:
    """Return the time a core takes for its part of a step: that of its slowest stage."""
    return max(stage_seconds(load, parameters).values())


def stage_seconds(load: CoreLoad, parameters: ModelParameters) -> dict[str, float]:
    """Return the time of each stage of a core: messages in, synapses, neurons, messages out."""
    scale = parameters.core_time_scale.si
    return {
        "messages in": scale * load.messages_in * parameters.message_in_time.si,
        "synapses": scale * load.synaptic_operations * parameters.synaptic_operation_time.si,
        "neurons": scale * load.instructions * parameters.instruction_time.si,
        "messages out": scale
        * (load.messages_out * parameters.message_out_time.si + load.deliveries * parameters.delivery_time.si),
    }


def link_seconds(step: StepLoad, parameters: ModelParameters) -> float:
    """Return the time of the busiest link, in a mesh or between chips."""
    return max(
        step.chip_messages * parameters.chip_message_time.si, step.link_messages * parameters.link_message_time.si
    )


def barrier_seconds(chips: int, parameters: ModelParameters) -> float:
    """Return the time the barrier at the end of a step takes."""
    several = parameters.barrier_multi_chip.si if chips > 1 else 0.0
    return parameters.barrier_single_chip.si + several


def event_joules(events: Events, parameters: ModelParameters) -> float:
    """Return the dynamic energy of a token."""
    return parameters.dynamic_energy_scale.si * (
        events.synaptic_operations * parameters.synaptic_operation_energy.si
        + events.instructions * parameters.instruction_energy.si
        + events.messages * parameters.message_energy.si
        + events.hops * parameters.hop_energy.si
        + events.chip_hops * parameters.chip_hop_energy.si
    )


def prompt_seconds(workload: Workload, parameters: ModelParameters, tokens: int) -> float:
    """Return the time of a prompt of so many tokens, until the last one has left the pipeline."""
    step = predict(workload, parameters).prefill.seconds_per_token
    return (tokens + len(workload.steps) - 1) * step


def prompt_tokens_per_s(workload: Workload, parameters: ModelParameters, tokens: int) -> float:
    """Return the throughput of a prompt, filling and emptying the pipeline included."""
    return tokens / prompt_seconds(workload, parameters, tokens)


def prompt_joules(workload: Workload, parameters: ModelParameters, tokens: int) -> float:
    """Return the energy of a prompt, of the chips in use."""
    static = parameters.static_power.si * workload.chips * prompt_seconds(workload, parameters, tokens)
    return static + tokens * event_joules(workload.events, parameters)


@dataclass(frozen=True)
class Session:
    """A prompt that is read and an answer that is generated.

    Parameters
    ----------
    prompt_tokens, new_tokens : int
    seconds : float
    static_joules, dynamic_joules : float
        Of the chips in use.
    board_static_joules : float, optional
        Of all chips of the board; none if no particular board is meant.
    """

    prompt_tokens: int
    new_tokens: int
    seconds: float
    static_joules: float
    dynamic_joules: float
    board_static_joules: float | None

    @property
    def joules(self) -> float:
        """Static and dynamic energy of the chips in use."""
        return self.static_joules + self.dynamic_joules

    @property
    def board_joules(self) -> float | None:
        """The same of the whole board."""
        return None if self.board_static_joules is None else self.board_static_joules + self.dynamic_joules

    @property
    def joules_per_token(self) -> float:
        """Over all tokens, read and generated."""
        return self.joules / (self.prompt_tokens + self.new_tokens)

    @property
    def joules_per_output_token(self) -> float:
        """Over the generated tokens only, of which there must be some."""
        return self.joules / self.new_tokens


def session(workload: Workload, parameters: ModelParameters, prompt_tokens: int, new_tokens: int) -> Session:
    """Return time and energy of reading a prompt of at least one token and generating an answer.

    Every generated token is read in turn, the last one too, so that the session can go on.
    """
    generating = new_tokens * predict(workload, parameters).generate.seconds_per_token
    seconds = prompt_seconds(workload, parameters, prompt_tokens) + generating
    static = parameters.static_power.si * seconds
    return Session(
        prompt_tokens,
        new_tokens,
        seconds,
        static_joules=static * workload.chips,
        dynamic_joules=(prompt_tokens + new_tokens) * event_joules(workload.events, parameters),
        board_static_joules=None if workload.board_chips is None else static * workload.board_chips,
    )

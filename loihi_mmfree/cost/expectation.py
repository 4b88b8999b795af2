"""What model, placement and recorded activity let one expect of a run on a board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loihi_mmfree.activity.counts import Activity, worst_case
from loihi_mmfree.activity.file import load_activity
from loihi_mmfree.cost.model import session
from loihi_mmfree.cost.parameters import PARAMETERS_FILE, ModelParameters, load_parameters
from loihi_mmfree.cost.quantity import Quantity
from loihi_mmfree.cost.workload import Workload, count_workload
from loihi_mmfree.net.artifact import Net
from loihi_mmfree.place.traffic import Traffic, traffic


@dataclass(frozen=True)
class Expectation:
    """What a network is to do on the system it was placed on.

    Parameters
    ----------
    workload : Workload
    parameters : ModelParameters
    per_token : mapping name -> float
        What a token is to cause on the cores: `synaptic_operations`, `messages_in`, `messages_out` (each counted
        once) and `message_copies_out` (once for every core, or host, that it goes to). Empty if no activity was
        recorded: the worst case is good for a bound of time and energy, and no count to be held against.
    inputs : mapping
        What it was made from: activity and placement.
    ids_sha256 : str
        Of the token ids that the activity was recorded of, see `activity.counts.Activity`; empty if unknown.
    """

    workload: Workload
    parameters: ModelParameters
    per_token: Mapping[str, float]
    inputs: Mapping[str, Any]
    ids_sha256: str = ""

    @property
    def scope(self) -> str:
        """Which chips the modelled energy is of."""
        chips, board = self.workload.chips, self.workload.board_chips
        if board is None:
            return f"chips in use ({chips}): the network was placed on no particular board"
        return f"whole board ({board} chips, {chips} in use)"

    def events(self) -> dict[str, Quantity]:
        """Return what a token is to cause on the cores."""
        return {
            name: Quantity(value, name.replace("_", " "), "modelled", self.inputs)
            for name, value in self.per_token.items()
        }

    def run(self, prompt_tokens: int, new_tokens_read: int) -> dict[str, Quantity]:
        """Return time and energy of a prompt and of generated tokens that are read one by one.

        Energy is of the whole board where one is known, else of the chips in use, see `scope`.
        """
        modelled = session(self.workload, self.parameters, prompt_tokens, new_tokens_read)
        tokens, seconds = prompt_tokens + new_tokens_read, modelled.seconds
        board = modelled.board_static_joules
        static = modelled.static_joules if board is None else board
        named = {
            "latency_seconds": (seconds, "s"),
            "tokens_per_s": (tokens / seconds, "tokens/s"),
            "millijoules_per_token": (1e3 * (static + modelled.dynamic_joules) / tokens, "mJ"),
            "total_energy_joules": (static + modelled.dynamic_joules, "J"),
            "static_energy_joules": (static, "J"),
            "dynamic_energy_joules": (modelled.dynamic_joules, "J"),
            "static_power_baseline_watts": (static / seconds, "W"),
        }
        inputs = {
            **self.inputs,
            "parameters": PARAMETERS_FILE,
            "prompt_tokens": prompt_tokens,
            "new_tokens_read": new_tokens_read,
            "scope": self.scope,
        }
        return {name: Quantity(value, unit, "modelled", inputs) for name, (value, unit) in named.items()}


def expect(net: Net) -> Expectation:
    """Return what to expect of a network, from its placement and the activity recorded for it.

    Raises
    ------
    ArtifactError
        The recorded activity is damaged or of another network.
    """
    graph, system, placement = net.graph, net.placed.chip, net.placed.placement
    recorded = load_activity(net.path, graph)
    activity = recorded or worst_case(graph)
    moved = traffic(graph, system, placement, activity.rates)
    workload = count_workload(graph, placement, activity, system, moved)
    inputs = provenance(activity, recorded is not None, placed_on(workload.cores, workload.chips, system.name))
    per_token = _per_token(workload, moved) if recorded else {}
    return Expectation(workload, load_parameters(), per_token, inputs, activity.ids_sha256)


def provenance(activity: Activity, recorded: bool, placed: str) -> dict[str, Any]:
    """Return what a workload was counted from, for the inputs of quantities."""
    return {
        "activity": f"{'recorded' if recorded else 'not recorded'}: {activity.origin}",
        "activity_tokens": activity.tokens,
        "placement": placed,
    }


def placed_on(cores: int, chips: int, system: str) -> str:
    """Return a placement in words."""
    return f"{cores} cores on {chips} chips of {system}"


def _per_token(workload: Workload, moved: Traffic) -> dict[str, float]:
    return {
        "synaptic_operations": workload.events.synaptic_operations,
        "messages_in": sum(core.received for core in moved.cores),
        "messages_out": moved.sent,
        "message_copies_out": sum(core.copies for core in moved.cores),
    }

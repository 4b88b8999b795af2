"""What a run counted, kept beside the network."""

from __future__ import annotations

from pathlib import Path

from loihi_mmfree.activity import file as activity_file
from loihi_mmfree.activity.counts import Activity
from loihi_mmfree.api.networks import AnyNet, folder, loaded


def activity(net: AnyNet) -> Activity | None:
    """Return what a run counted of a network and `save_activity` kept; None if there is nothing.

    Raises
    ------
    ArtifactError
        What was kept is damaged or of another network.
    """
    network = loaded(net)
    return activity_file.load_activity(network.path, network.graph)


def save_activity(net: AnyNet, activity: Activity) -> Path:
    """Keep what a run counted in the network's folder, for `report` and `profile`; return the file of its totals.

    Raises
    ------
    UsageError
        The folder cannot be written.
    """
    return activity_file.save_activity(folder(net), activity)


def require_recordable(net: AnyNet, option: str = "") -> None:
    """Refuse a network whose activity could not be kept, before a run; `option` asked for it.

    Raises
    ------
    UsageError
        Its folder cannot be written.
    """
    activity_file.require_recordable(folder(net), option)

"""Where the activity of a compiled network is kept: one file with totals and a table of every token."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.activity.counts import HISTOGRAM_BINS, Activity, group_ports
from loihi_mmfree.activity.incidents import COLUMNS, NODE, TOKEN, Incidents
from loihi_mmfree.errors import ArtifactError, UsageError
from loihi_mmfree.files import read_regular, require_output, require_writable, write_whole
from loihi_mmfree.ir.executor import counting_nodes
from loihi_mmfree.ir.graph import Graph
from loihi_mmfree.net.artifact import network_sha256
from loihi_mmfree.net.folder import ACTIVITY, LARGEST_JSON_BYTES, REPORT
from loihi_mmfree.scratch import hold
from loihi_mmfree.units import bytes_text
from loihi_mmfree.untrusted import LARGEST_ARRAYS_BYTES, parse_json, parse_npz

SCHEMA_VERSION = 4
"""Of `ACTIVITY` in the `report` folder: one file, so that another recording replaces all of it or nothing.

It holds `totals`, JSON in UTF-8; `messages`, int32 [T, outputs], with `outputs`, the names of its columns; and
`incidents`, int32 [incidents, 4] (see `activity.incidents`), with `nodes`, the names that its second column
numbers.
"""
_TOTALS = "messages", "saturations", "overflows"
RECORDING = "`save_activity(net, run(net, prompt, backend='engine', activity=True).activity)`"
"""The call that records an activity and keeps it, for messages."""
HISTOGRAM_RECORDING = RECORDING.replace("activity=True", "activity=True, histograms=True")
_AGAIN = f"record it again: {RECORDING}"


def save_activity(net_path: str | Path, activity: Activity) -> Path:
    """Write a recorded activity into the `report` folder of a compiled network, and return the file.

    Raises
    ------
    UsageError
        The folder cannot be written, or the recording is longer than what is read back.
    ValueError
        The activity was not recorded.
    """
    if activity.by_token is None:
        raise ValueError("only a recorded activity is kept, and this one has no messages by token")
    most = LARGEST_ARRAYS_BYTES // 2
    if activity.by_token.nbytes + activity.incidents.rows.nbytes > most:
        raise UsageError(
            f"the activity of {activity.tokens} tokens takes more than {bytes_text(most)}, which is the "
            "most that is kept; record fewer tokens"
        )
    folder = require_report_folder(net_path)
    totals = {"schema_version": SCHEMA_VERSION, "network_sha256": network_sha256(net_path), **_to_dict(activity)}
    content = io.BytesIO()
    np.savez_compressed(
        content,
        totals=np.frombuffer(json.dumps(totals).encode(), dtype=np.uint8),
        messages=activity.by_token.astype("<i4", copy=False),
        outputs=np.array(list(activity.messages)),
        incidents=activity.incidents.rows.astype("<i4", copy=False),
        nodes=np.array(activity.incidents.nodes),
    )
    with _alone_in(folder):
        write_whole(folder / ACTIVITY, content.getvalue())
    return folder / ACTIVITY


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other writers of activity out of a folder, and sweep what one that was killed has left there."""
    lock = hold(folder, wait=True)
    try:
        if lock is not None:
            for partial in folder.glob(f".{ACTIVITY}.*.partial"):
                partial.unlink()
        yield
    finally:
        if lock is not None:
            os.close(lock)


def require_report_folder(net_path: str | Path) -> Path:
    """Return the `report` folder of a compiled network, made if there is none.

    Raises
    ------
    UsageError
        It cannot be written.
    """
    folder = Path(net_path) / REPORT
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}") from error
    require_recordable(net_path)
    return folder


def require_recordable(net_path: str | Path, option: str = "") -> None:
    """Refuse a network whose activity could not be kept in it, before there is one; `option` asked for it.

    Raises
    ------
    UsageError
        Its `report` folder cannot be made or written, or leads out of the network.
    """
    folder = Path(net_path) / REPORT
    if folder.is_symlink():
        raise UsageError(f"{option} {folder}: is a link, and would lead out of the network; remove it".strip())
    if not os.path.lexists(folder):
        require_writable(Path(net_path), option)
        return
    require_writable(folder, option)
    path = folder / ACTIVITY
    if path.is_symlink():
        raise UsageError(f"{option} {path}: is a link, and would lead out of the network".strip())
    require_output(path, option)


def load_activity(net_path: str | Path, graph: Graph) -> Activity | None:
    """Read the activity recorded for a compiled network; None if there is none.

    Raises
    ------
    ArtifactError
        It is damaged, of another schema or of another network, or its totals are not those of its tables.
    """
    folder = Path(net_path) / REPORT
    path = folder / ACTIVITY
    if not os.path.lexists(path):
        return None
    if folder.is_symlink():
        raise ArtifactError(f"{folder}: is a link, and leads out of the network; remove it")
    try:
        tables = parse_npz(read_regular(path, LARGEST_ARRAYS_BYTES, follow=False))
        data = _checked(parse_json(_text(tables)))
        missing = {"messages", "outputs", "incidents", "nodes"} - tables.keys()
        if missing:
            raise ValueError(f"has no {', '.join(sorted(missing))}")
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}; {_AGAIN}") from error
    if data["network_sha256"] != network_sha256(net_path):
        raise ArtifactError(f"{path}: counts of another network; {_AGAIN}")
    sizes = {str(source): size for source, size in group_ports(graph).items()}
    by_token, incidents = _checked_tables(path, tables, sizes, counting_nodes(graph))
    messages = dict(zip(sizes, by_token.sum(axis=0, dtype=np.int64).tolist(), strict=True))
    found = Activity(
        data["tokens"], messages, data["origin"], data["ids_sha256"], data["histograms"], by_token, incidents
    )
    complete = not found.histograms or (
        found.histograms.keys() == sizes.keys()
        and all(sum(found.histograms[key]) == found.tokens * size for key, size in sizes.items())
    )
    if (
        not complete
        or len(by_token) != found.tokens
        or any(_totals(found)[name] != data[name] for name in _TOTALS)
    ):
        raise ArtifactError(f"{path}: its totals are not those of its tables; {_AGAIN}")
    return found


def _to_dict(activity: Activity) -> dict[str, Any]:
    return {
        "origin": activity.origin,
        "ids_sha256": activity.ids_sha256,
        "tokens": activity.tokens,
        **_totals(activity),
        "histograms": dict(activity.histograms),
    }


def _totals(activity: Activity) -> dict[str, dict[str, int]]:
    return {name: dict(getattr(activity, name)) for name in _TOTALS}


def _checked(data: Any) -> dict[str, Any]:
    """What was read, if it is the totals of an activity; else ValueError."""
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
        found = data.get("schema_version") if isinstance(data, dict) else None
        raise ValueError(f"an activity of schema {found}, expected {SCHEMA_VERSION}")
    if not isinstance(data.get("tokens"), int) or not 1 <= data["tokens"] < 2**31:
        raise ValueError("tokens must be a whole number of at least 1")
    for name in _TOTALS:
        if not _is_counts(data.get(name)):
            raise ValueError(f"{name} must be counts by name")
    for name in ("network_sha256", "origin", "ids_sha256"):
        if not isinstance(data.get(name), str):
            raise ValueError(f"{name} must be a text")
    if not isinstance(data.get("histograms"), dict) or not all(map(_is_histogram, data["histograms"].values())):
        raise ValueError(f"histograms must be lists of {HISTOGRAM_BINS} counts by node:port")
    return data


def _is_counts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(each, int) and each >= 0 for each in value.values())


def _is_histogram(value: Any) -> bool:
    counts = isinstance(value, list) and all(isinstance(each, int) and each >= 0 for each in value)
    return counts and len(value) == HISTOGRAM_BINS


def _text(tables: Mapping[str, NDArray[Any]]) -> bytes:
    """The JSON in an archive."""
    totals = tables["totals"]
    if totals.dtype != np.uint8 or totals.ndim != 1 or totals.size > LARGEST_JSON_BYTES:
        raise ValueError("its totals are no text")
    return totals.tobytes()


def _checked_tables(
    path: Path, tables: Mapping[str, NDArray[Any]], sizes: Mapping[str, int], nodes: tuple[str, ...]
) -> tuple[NDArray[np.int32], Incidents]:
    """The messages of every token at outputs of these sizes, int32 [tokens, outputs], and the incidents."""
    messages, rows = tables["messages"], tables["incidents"]
    named = tables["outputs"].tolist(), tables["nodes"].tolist()
    known = (
        named == (list(sizes), list(nodes)) and _is_table(messages, len(sizes)) and _is_table(rows, len(COLUMNS))
    )
    if (
        not known
        or not _is_within(messages, list(sizes.values()))
        or not _is_within(rows[:, NODE], len(nodes) - 1)
    ):
        raise ArtifactError(f"{path}: counts of another network; {_AGAIN}")
    if not _is_within(rows[:, TOKEN], len(messages) - 1) or np.any(rows < 0):
        raise ArtifactError(f"{path}: incidents of tokens that were not read; {_AGAIN}")
    return messages, Incidents(nodes, rows)


def _is_within(counts: NDArray[np.int32], most: int | list[int]) -> bool:
    return not np.any((counts < 0) | (counts > most))


def _is_table(array: NDArray[Any], columns: int) -> bool:
    return bool(array.dtype == "<i4" and array.ndim == 2 and array.shape[1] == columns)

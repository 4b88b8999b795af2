"""Hold an implementation against these vectors: python check_vectors.py CANDIDATE [NODE ...]

CANDIDATE is a folder that holds NODE.npz for every node that you implemented, with the arrays CASE/outputs/PORT,
and CASE/after/STATE where a state can be read: what yours gives for CASE/inputs/PORT, from CASE/before/STATE, of
nodes/NODE.npz, integers [step, neuron]. Ends with 0 if all that is there is equal. Needs NumPy alone.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def faults(node: str, candidate: Path):  # type: ignore[no-untyped-def]
    """Yield what is missing from a candidate's arrays, or differs."""
    with np.load(HERE / "nodes" / f"{node}.npz") as expected, np.load(candidate / f"{node}.npz") as found:
        for key in (each for each in expected.files if "/outputs/" in each or "/after/" in each):
            if key not in found.files:
                yield from [f"{key}: missing"] * ("/outputs/" in key)
            elif (right := expected[key]).shape != (yours := found[key]).shape:
                yield f"{key}: shape {yours.shape}, expected {right.shape}"
            elif len(places := np.argwhere(right != yours)):
                first = tuple(places[0])
                what = f"step {first[0]}, neuron {first[1]}: expected {right[first]}, found {yours[first]}"
                yield f"{key}: {len(places)} of {right.size} differ, the first in {what}"


def main(candidate: Path, *named: str) -> int:
    """Check the nodes named, or all that the candidate has; return the exit code."""
    known = [each["node"] for each in json.loads((HERE / "vectors.json").read_text())["nodes"]]
    found = {
        node: list(faults(node, candidate)) for node in named or known if (candidate / f"{node}.npz").is_file()
    }
    for node in named or known:
        print(node, *found.get(node, ["not there"]) or ["equal"], sep="\n  " if found.get(node) else ": ")
    equal = sum(not each for each in found.values())
    print(f"{equal} of {len(found)} that are there are equal; there could be {len(known)}")
    return int(equal == 0 or equal < (len(named) or len(found)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]) if sys.argv[1:] else __doc__)

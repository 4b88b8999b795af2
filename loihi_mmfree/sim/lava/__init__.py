"""A compiled network as Lava processes, at three granularities."""

from importlib.util import find_spec

from loihi_mmfree.compatibility import mend_lava
from loihi_mmfree.errors import BackendUnavailableError
from loihi_mmfree.manual import manual_page

if find_spec("lava") is None or find_spec("lava.magma") is None:
    raise BackendUnavailableError(
        "backend sim: Lava is not installed, which pip does on Python 3.10 alone; "
        f"{manual_page('lava.md')} says how on later ones. `backend='engine'` gives the same integers without it"
    )
mend_lava()

"""A compiled network as Lava processes, at three granularities."""

from loihi_mmfree.compatibility import mend_lava

mend_lava()
